// Answers with as many pieces of that size, in that rhythm, as the message asks for.
import http from "node:http";
import { once } from "node:events";

const item = { type: "message", id: "msg_1", role: "assistant", status: "completed" };
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
const resource = (status, output) => ({
  id: "resp_1", object: "response", created_at: 1_800_000_000, status, model: "openclaw", output,
  usage,
});
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
  const asked = body.match(/(\d+) pieces of (\d+) every (\d+) ms/) ?? [0, 1, 10, 0];
  const [pieces, size, rest_ms] = asked.slice(1).map(Number);
  const delta = "x".repeat(size);
  const whole = () => resource("completed", [
    { ...item, content: [{ type: "output_text", text: delta.repeat(pieces) }] },
  ]);
  if (!JSON.parse(body).stream) return json(whole());
  response.setHeader("content-type", "text/event-stream");
  response.write(event({ type: "response.created", response: resource("in_progress", []) }));
  const piece = event({
    type: "response.output_text.delta", item_id: "msg_1", output_index: 0, content_index: 0, delta,
  });
  for (let number = 0; number < pieces && !response.destroyed; number += 1) {
    if (!response.write(piece)) await Promise.race([once(response, "drain"), once(response, "close")]);
    await new Promise((done) => setTimeout(done, rest_ms));
  }
  // Nobody reads it, and to write it would keep others waiting.
  if (response.destroyed) return;
  response.write(event({ type: "response.completed", response: whole() }));
  response.end("data: [DONE]\n\n");
}

http.createServer(answer).listen(18789, "0.0.0.0");
process.on("SIGTERM", () => process.exit(0));
