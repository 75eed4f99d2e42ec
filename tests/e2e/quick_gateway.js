#!/usr/bin/env node
// What the tests put in the place of OpenClaw where that is not what they are about: a gateway that
// is there at once and keeps its turns on the volume. It does as it is told in a message:
//   "eat memory"           grows until it is ended;
//   "ask your model: Hi"   sends "Hi" to its model by the relay, and answers what that says;
//   "a long story"         if streamed, is told, but has its end when the next message comes;
//   "Please wait."         is begun, and has no end; the log says so;
//   "run: rm x"            asks before it says that it has run, if its policy of approvals says so;
//   "what was before?"     in it, is answered with the message before as well;
//   "40 pieces of 200 every 25 ms" is answered so, and not kept.
// With QUICK_GATEWAY_ASKS set, its model is sent every message, with those before it. With
// QUICK_GATEWAY_WAITS set, or that number in its configuration, it starts once there is /data/go.
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { once } = require("node:events");
const { DatabaseSync } = require("node:sqlite");

const home = "/data/.openclaw";
const file = `${home}/turns.json`;
const bornAt = Date.now();
const turns = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : {};
const told = [];
let suspendedBy = null;
const policy = { version: 1, agents: {} };
const asked = new Map();

const controls = {
  "config.get": () => ({ hash: "1", config: JSON.parse(fs.readFileSync(`${home}/openclaw.json`)) }),
  // What it is configured to be makes no difference to it.
  "config.patch": () => ({ sentinel: { payload: { stats: { requiresRestart: false } } } }),
  "gateway.suspend.prepare": ({ requestId }) => {
    suspendedBy = requestId;
    return { suspensionId: requestId, status: "ready" };
  },
  "gateway.suspend.status": () => ({ status: "ready" }),
  "gateway.suspend.resume": () => {
    suspendedBy = null;
    return {};
  },
  "exec.approvals.get": () => ({ hash: "1", file: policy }),
  "exec.approvals.set": ({ file }) => Object.assign(policy, file),
  "exec.approval.list": () => [...asked.values()].map(({ decide, ...approval }) => approval),
  "exec.approval.resolve": ({ id, decision }) => asked.get(id).decide(decision),
  "sessions.delete": ({ key }) => {
    delete turns[key];
    keep();
    return {};
  },
};

function keep() {
  fs.writeFileSync(`${file}.new`, JSON.stringify(turns));
  fs.renameSync(`${file}.new`, file);
}

function eatMemory() {
  for (const eaten = []; ; ) eaten.push(Buffer.alloc(1 << 24, 1));
}

async function askModel({ "x-openclaw-model": name, "x-openclaw-session-key": key }, said) {
  const [id, model] = name.split("/");
  const messages = said.flatMap((content, turn) => [
    ...(turn ? [{ role: "assistant", content: "So you said." }] : []),
    { role: "user", content },
  ]);
  // The line by which the relay knows the conversation.
  const system = `Runtime: agent=main | session=${key} | sessionId=1 | host=agent`;
  const { api, baseUrl, apiKey } = JSON.parse(fs.readFileSync(`${home}/openclaw.json`)).models
    .providers[id];
  const [path, body, text] = {
    "anthropic-messages": [
      "v1/messages",
      { max_tokens: 99, system, messages },
      (said) => said.content[0].text,
    ],
    "openai-responses": [
      "responses",
      { input: [{ role: "developer", content: system }, ...messages] },
      (said) => said.output[0].content[0].text,
    ],
  }[api];
  const answered = await fetch(`${baseUrl}/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify({ model, ...body }),
  });
  return text(await answered.json());
}

async function turn(said, headers) {
  // As OpenClaw does. A load's messages are megabytes.
  console.log(said.slice(0, 1000));
  if (said.includes("eat memory")) eatMemory();
  const all = (turns[headers["x-openclaw-session-key"]] ??= []);
  all.push(said.slice(0, 1000));
  keep();
  if (process.env.QUICK_GATEWAY_ASKS) return askModel(headers, all);
  const [, command] = said.match(/run: (.*)/) ?? [];
  if (command !== undefined) return runCommand(command);
  const [, words] = said.match(/ask your model: (.*)/) ?? [];
  if (words !== undefined) return askModel(headers, [words]);
  const before = said.includes("what was before?") && all.length > 1;
  return `Turn ${all.length}. First: ${all[0]}` + (before ? ` Before that: "${all.at(-2)}"` : "");
}

// As the client in OpenClaw's gateway tells the server (docker/sandbox/control.cjs).
function tell(event, payload) {
  const { providers } = JSON.parse(fs.readFileSync(`${home}/openclaw.json`)).models;
  const { baseUrl, apiKey } = Object.values(providers)[0];
  return fetch(`${new URL(baseUrl).origin}/gateway-events`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify({ events: [{ event, payload }] }),
  });
}

async function runCommand(command) {
  if (policy.agents.main?.ask !== "always") return `ran ${command}`;
  const id = crypto.randomUUID();
  const request = { command, allowedDecisions: ["allow-once", "deny"] };
  const times = { createdAtMs: Date.now(), expiresAtMs: Date.now() + 1_800_000 };
  const decided = new Promise((decide) => asked.set(id, { id, request, ...times, decide }));
  await tell("exec.approval.requested", { id, request, ...times });
  const decision = await decided;
  asked.delete(id);
  return decision === "deny" ? `denied ${command}` : `ran ${command}`;
}

const item = { type: "message", id: "msg_1", role: "assistant" };

function finished(text) {
  const content = [{ type: "output_text", text, annotations: [] }];
  return { ...item, status: "completed", content };
}

function resource(status, output) {
  return {
    id: "resp_1",
    object: "response",
    created_at: 1_800_000_000,
    status,
    model: "openclaw",
    output,
    usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2 },
  };
}

async function stream(response, said, { piece, pieces, rest_ms }) {
  const tell = (type, more) =>
    response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`);
  response.writeHead(200, { "content-type": "text/event-stream" });
  tell("response.created", { response: resource("in_progress", []) });
  tell("response.in_progress", { response: resource("in_progress", []) });
  const place = { item_id: "msg_1", output_index: 0, content_index: 0 };
  const begun = { ...item, status: "in_progress", content: [] };
  tell("response.output_item.added", { output_index: 0, item: begun });
  for (let number = 0; number < pieces && !response.destroyed; number += 1) {
    if (!tell("response.output_text.delta", { ...place, delta: piece }))
      await Promise.race([once(response, "drain"), once(response, "close")]);
    await new Promise((done) => setTimeout(done, rest_ms));
  }
  if (said === "a long story") await new Promise((end) => told.push(end));
  // Nobody reads it, and to write it would keep others waiting.
  if (response.destroyed || said === "Please wait.") return;
  const whole = finished(piece.repeat(pieces));
  tell("response.output_item.done", { output_index: 0, item: whole });
  tell("response.completed", { response: resource("completed", [whole]) });
  response.end("data: [DONE]\n\n");
}

async function respond({ input, stream: isStreamed }, headers, response, end) {
  const said = typeof input === "string" ? input : `${JSON.stringify(input)}`;
  const asked = said.match(/^(\d+) pieces of (\d+) every (\d+) ms$/)?.slice(1).map(Number);
  const [pieces, size, rest_ms] = asked ?? [1, 0, 0];
  const piece = asked ? "x".repeat(size) : await turn(said, headers);
  if (said === "Please wait.") console.log("waiting");
  if (isStreamed) return stream(response, said, { piece, pieces, rest_ms });
  if (said !== "Please wait.") end(200, resource("completed", [finished(piece.repeat(pieces))]));
}

async function answer({ method, url, headers }, body, response) {
  const end = (status, content) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(content));
  };
  // As OpenClaw does: after a restart of the engine, an address may be another sandbox's.
  const { token } = JSON.parse(fs.readFileSync(`${home}/openclaw.json`)).gateway.auth;
  if (method === "POST" && headers.authorization !== `Bearer ${token}`)
    return end(401, { error: { message: "Unauthorized", type: "unauthorized" } });
  if (url === "/api/v1/admin/rpc" || url === "/chowder-control")
    return end(200, { ok: true, payload: controls[body.method]?.(body.params) ?? {} });
  if (suspendedBy !== null) return end(503, { error: { message: "suspended" } });
  if (url === "/startupz") {
    // As an image answers that has a clock.
    response.setHeader("x-chowder-clock", "?");
    return end(200, { uptimeMs: Date.now() - bornAt });
  }
  if (method === "GET") return end(200, {});
  told.splice(0).forEach((finish) => finish());
  try {
    return await respond(body, headers, response, end);
  } catch (failure) {
    // All that OpenClaw says of it, too.
    console.error(failure);
    return end(500, { status: "failed", error: { code: "api_error", message: "internal error" } });
  }
}

// As much of a WebSocket as a call from inside the sandbox needs: one short frame at a time.
function talk(socket) {
  const send = (frame) => {
    const text = Buffer.from(JSON.stringify(frame));
    const size = Buffer.alloc(2);
    size.writeUInt16BE(text.length);
    socket.write(Buffer.concat([Buffer.from([0x81, 126]), size, text]));
  };
  let unread = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    unread = Buffer.concat([unread, chunk]);
    while (unread.length >= 2) {
      const isLong = (unread[1] & 0x7f) === 126;
      const start = isLong ? 4 : 2;
      if (unread.length < start) return;
      const length = isLong ? unread.readUInt16BE(2) : unread[1] & 0x7f;
      if (unread.length < start + 4 + length) return;
      const mask = unread.subarray(start, start + 4);
      const text = unread.subarray(start + 4, start + 4 + length).map((byte, n) => byte ^ mask[n % 4]);
      const isText = (unread[0] & 0x0f) === 1;
      unread = unread.subarray(start + 4 + length);
      if (!isText) return socket.end();
      const { id, method, params } = JSON.parse(text.toString());
      send({ type: "res", id, ok: true, payload: controls[method]?.(params) ?? {} });
    }
  });
  socket.on("error", () => socket.destroy());
  send({ type: "event", event: "connect.challenge" });
}

function start() {
  console.log("[gateway] listens");
  // The databases that OpenClaw has, with nothing in them.
  for (const place of ["state/openclaw.sqlite", "agents/main/agent/openclaw-agent.sqlite"]) {
    fs.mkdirSync(path.dirname(`${home}/${place}`), { recursive: true });
    new DatabaseSync(`${home}/${place}`).close();
  }
  http
    .createServer(async (request, response) => {
      const text = Buffer.concat(await request.toArray()).toString();
      await answer(request, text ? JSON.parse(text) : {}, response);
    })
    .on("upgrade", ({ headers }, socket) => {
      const key = `${headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
      const accepted = crypto.createHash("sha1").update(key).digest("base64");
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
          `Sec-WebSocket-Accept: ${accepted}\r\n\r\n`,
      );
      talk(socket);
    })
    .listen(18789, "0.0.0.0");
}

process.on("SIGTERM", () => process.exit(0));
// Without a configuration, it is no agent's, but an engine's test's.
const isConfigured = fs.existsSync(`${home}/openclaw.json`);
const isHeld =
  process.env.QUICK_GATEWAY_WAITS ||
  (isConfigured && /"timeoutSeconds": 1234\b/.test(fs.readFileSync(`${home}/openclaw.json`, "utf8")));
const isAwaited = () => isHeld && !fs.existsSync("/data/go");
const wait = () => (isAwaited() ? setTimeout(wait, 20) : start());
wait();
