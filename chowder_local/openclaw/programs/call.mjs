// Makes one call of the gateway's WebSocket protocol from inside the sandbox, where the shared
// token suffices. From outside, the gateway demands a paired device, and HTTP has few methods.
// In: one line of JSON {token, port, method, params}. Out: one line of JSON {ok, payload | error}.
import { createInterface } from "node:readline";

const { value: line } = await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next();
const { token, port, method, params } = JSON.parse(line);

// The engine may drop what an ended program wrote, so this one ends when its answer was read.
function leave() {
  if (process.stdin.readableEnded) process.exit(0);
  process.stdin.once("end", () => process.exit(0));
}

function end(answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`, leave);
}
const unreachable = (message) => end({ ok: false, error: { code: "UNREACHABLE", message } });

// Some calls take minutes, and a silent program counts as dead. Leading spaces are valid JSON.
setInterval(() => process.stdout.write(" "), 10_000).unref();

const socket = new WebSocket(`ws://127.0.0.1:${port}`);
const send = (id, method, params) => socket.send(JSON.stringify({ type: "req", id, method, params }));

socket.onerror = (event) => unreachable(event.message || "the gateway does not answer");
socket.onclose = (event) => unreachable(event.reason || "the gateway hung up");
socket.onmessage = ({ data }) => {
  const frame = JSON.parse(data);
  if (frame.type === "event" && frame.event === "connect.challenge") {
    send("connect", "connect", {
      minProtocol: 4,
      maxProtocol: 4,
      client: { id: "gateway-client", version: "1", platform: "linux", mode: "backend" },
      role: "operator",
      scopes: ["operator.admin", "operator.read", "operator.write", "operator.pairing"],
      auth: { token },
    });
  } else if (frame.type === "res" && frame.id === "connect" && frame.ok) {
    send("call", method, params);
  } else if (frame.type === "res") {
    end({ ok: frame.ok, payload: frame.payload, error: frame.error });
  }
};
