#!/usr/bin/env node
// What the tests of engines put in the place of OpenClaw: a gateway that is there at once, keeps its
// turns on the volume, and eats memory when it is told to.
const fs = require("node:fs");
const http = require("node:http");

const file = "/data/.openclaw/turns.json";
const bornAt = Date.now();
const turns = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : [];
let suspendedBy = null;

const controls = {
  "gateway.suspend.prepare": ({ requestId }) => {
    suspendedBy = requestId;
    return { suspensionId: requestId, status: "ready" };
  },
  "gateway.suspend.status": () => ({ status: "ready" }),
  "gateway.suspend.resume": () => {
    suspendedBy = null;
    return {};
  },
};

function eatMemory() {
  for (const eaten = []; ; ) eaten.push(Buffer.alloc(1 << 24, 1));
}

function turn(input) {
  const said = typeof input === "string" ? input : JSON.stringify(input);
  if (said.includes("eat memory")) eatMemory();
  turns.push(said);
  fs.writeFileSync(`${file}.new`, JSON.stringify(turns));
  fs.renameSync(`${file}.new`, file);
  const text = `Turn ${turns.length}. First: ${turns[0]}`;
  const content = [{ type: "output_text", text, annotations: [] }];
  return {
    id: "resp_1",
    object: "response",
    created_at: 1,
    status: "completed",
    model: "openclaw",
    output: [{ type: "message", id: "msg_1", role: "assistant", status: "completed", content }],
    usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2 },
  };
}

function answer({ url }, body) {
  if (url === "/api/v1/admin/rpc")
    return [200, { ok: true, payload: controls[body.method](body.params) }];
  if (suspendedBy !== null) return [503, { error: { message: "suspended" } }];
  if (url === "/startupz") return [200, { uptimeMs: Date.now() - bornAt }];
  try {
    return [200, turn(body.input)];
  } catch (failure) {
    // All that OpenClaw says of it, too.
    console.error(failure);
    return [500, { status: "failed", error: { code: "api_error", message: "internal error" } }];
  }
}

http
  .createServer(async (request, response) => {
    const chunks = await request.toArray();
    const text = Buffer.concat(chunks).toString();
    const [status, body] = answer(request, text ? JSON.parse(text) : {});
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  })
  .listen(18789, "0.0.0.0");
process.on("SIGTERM", () => process.exit(0));
