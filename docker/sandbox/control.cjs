// A client of the gateway's own protocol, in the gateway's process, where it needs no paired device.
// OpenClaw asks for approvals only while a client takes them, and has most of its methods for such
// clients alone. The server calls them by a request to the gateway's port, and the relay gets events.
"use strict";

const { subscribe } = require("node:diagnostics_channel");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const { setTimeout: sleep } = require("node:timers/promises");
const { isMainThread } = require("node:worker_threads");

const { answers } = require("./divert.cjs");

const ADDRESS = "ws://127.0.0.1:18789";
const CONFIG = `${process.env.HOME}/.openclaw/openclaw.json`;
// As chowder_local/openclaw/gateway.py and chowder_local/app/relay_app.py have them.
const CALLS = "/chowder-control";
const REPORTS = "/gateway-events";
const RELAY = /^http:\/\/relay\.local:\d+/;
const MAX_CALL_BYTES = 2 ** 20;
const RETRY_MS = 1_000;
// A server that was started anew learns what waits.
const REMIND_MS = 5_000;
const MAX_REPORTS = 1_000;
const WAITING = "exec.approval.list";
const EVENTS = ["connect.challenge", "exec.approval.requested", "exec.approval.resolved"];
// Of what the gateway tells its clients, little is parsed.
const WANTED = RegExp(`^\\{"type":"(?:res"|event","event":"(?:${EVENTS.join("|")})")`);
const HUNG_UP = { ok: false, error: { code: "UNREACHABLE", message: "the gateway hung up" } };
const OUTAGES = ["UNREACHABLE", "UNAVAILABLE"];

const readConfig = () => JSON.parse(readFileSync(CONFIG, "utf8"));

// A promise of the function that calls a method, once the gateway has let the client in.
let connection;

function connect() {
  const { promise, resolve } = Promise.withResolvers();
  const socket = new WebSocket(ADDRESS);
  const calls = new Map();
  let last = 0;
  const call = async (method, params) => {
    // Between its end and the next connection there is no answer to wait for.
    if (socket.readyState !== WebSocket.OPEN) return HUNG_UP;
    const { promise: answered, resolve: answer } = Promise.withResolvers();
    calls.set((last += 1), answer);
    socket.send(JSON.stringify({ type: "req", id: String(last), method, params }));
    return answered;
  };
  socket.onmessage = ({ data }) => {
    if (!WANTED.test(data)) return;
    const { type, id, event, ok, payload, error } = JSON.parse(data);
    if (type === "res") {
      calls.get(Number(id))?.({ ok, payload, error });
      calls.delete(Number(id));
    } else if (event === "connect.challenge") {
      enter(call).then((isIn) => (isIn ? resolve(call) : socket.close()));
    } else {
      report(event, payload);
    }
  };
  socket.onclose = () => {
    calls.forEach((answer) => answer(HUNG_UP));
    resolve(async () => HUNG_UP);
    setTimeout(() => (connection = connect()), RETRY_MS).unref();
  };
  promise.then(remind);
  return promise;
}

async function enter(call) {
  try {
    const { ok } = await call("connect", {
      minProtocol: 4,
      maxProtocol: 4,
      client: { id: "gateway-client", version: "1", platform: "linux", mode: "backend" },
      caps: ["approvals", "session-scoped-events"],
      role: "operator",
      scopes: ["admin", "read", "write", "approvals", "pairing"].map((each) => `operator.${each}`),
      auth: { token: readConfig().gateway.auth.token },
    });
    return ok;
  } catch {
    // The file is not whole.
    return false;
  }
}

const reports = [];
let isReporting = false;
let mayWait = false;
let reminder;

async function remind() {
  // Those that are still to be delivered remind as well.
  if (reports.length > 0) return;
  const { ok, payload } = await (await connection)(WAITING, {});
  if (ok) report(WAITING, payload);
}

async function report(event, payload) {
  clearTimeout(reminder);
  mayWait = event !== WAITING || payload.length > 0;
  reports.push({ event, payload });
  if (reports.length > MAX_REPORTS) reports.shift();
  if (isReporting) return;
  isReporting = true;
  while (reports.length > 0) {
    const { length } = reports;
    if (await deliver(JSON.stringify({ events: reports }))) reports.splice(0, length);
    else await sleep(RETRY_MS);
  }
  isReporting = false;
  if (mayWait) reminder = setTimeout(remind, REMIND_MS).unref();
}

/** Whether the relay has taken it, or will never. */
function deliver(body) {
  const { promise, resolve } = Promise.withResolvers();
  try {
    const { baseUrl, apiKey } = Object.values(readConfig().models.providers).find(({ baseUrl }) => RELAY.test(baseUrl));
    const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
    // A connection that is kept would be closed at the other end while the agent is frozen.
    http
      .request(RELAY.exec(baseUrl)[0] + REPORTS, { method: "POST", headers, agent: false }, (answer) => {
        answer.resume();
        answer.on("close", () => resolve(answer.statusCode < 500));
      })
      .on("error", () => resolve(false))
      .end(body);
  } catch {
    resolve(false);
  }
  return promise;
}

async function answerCall(request, response) {
  try {
    const { authorization } = request.headers;
    if (authorization !== `Bearer ${readConfig().gateway.auth.token}`) return response.writeHead(401).end();
    let body = "";
    for await (const chunk of request) {
      body += chunk;
      if (body.length > MAX_CALL_BYTES) return response.writeHead(413).end();
    }
    const { method, params } = JSON.parse(body);
    const answer = await (await (connection ??= connect()))(method, params);
    const status = answer.ok ? 200 : OUTAGES.includes(answer.error.code) ? 503 : 400;
    return response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  } catch {
    return response.destroy();
  }
}

if (isMainThread && process.argv.includes("gateway")) {
  answers[CALLS] = answerCall;
  subscribe("http.server.request.start", ({ request, response }) => {
    if (connection || request.url !== "/startupz") return;
    response.once("close", () => {
      if (response.statusCode === 200) connection ??= connect();
    });
  });
}
