// Answers every message at once, with as many pieces as an agent's answer of some lines has.
import http from "node:http";

const pieces = 30;
const item = { type: "message", id: "msg_1", role: "assistant", status: "completed" };
const words = "Some words of it. ";
const content = [{ type: "output_text", text: words.repeat(pieces) }];
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
const whole = {
  id: "resp_1", object: "response", created_at: 1_800_000_000, status: "completed",
  model: "openclaw", output: [{ ...item, content }], usage,
};
const begun = { ...whole, status: "in_progress", output: [] };
const piece = {
  type: "response.output_text.delta", item_id: "msg_1", output_index: 0, content_index: 0,
  delta: words,
};

const event = (data) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

async function answer(request, response) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const json = (content) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(content));
  };
  if (request.url === "/startupz") return json({ uptimeMs: process.uptime() * 1000 });
  if (request.url !== "/v1/responses") return json({ ok: true, payload: {} });
  if (!JSON.parse(body).stream) return json(whole);
  response.setHeader("content-type", "text/event-stream");
  response.write(event({ type: "response.created", response: begun }));
  for (let number = 0; number < pieces; number += 1) {
    response.write(event(piece));
    // Each is to leave by itself, as an agent's do.
    await new Promise((done) => setImmediate(done));
  }
  response.write(event({ type: "response.completed", response: whole }));
  response.end("data: [DONE]\n\n");
}

const server = http.createServer(answer).listen(18789, "0.0.0.0");
process.on("SIGTERM", () => server.close());
