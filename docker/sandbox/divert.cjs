// The local messenger for channels whose plugins call hosts that no setting changes, or none without a
// restart: what the gateway sends there goes to chowder-local's server instead, as long as the channel's
// section of the configuration has that server's address. Such a call needs no DNS, no certificate and no
// egress, and nothing else of the sandbox is touched, neither its other calls nor the agent's programs.
"use strict";

const dns = require("node:dns");
const { once } = require("node:events");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const { syncBuiltinESMExports } = require("node:module");
const net = require("node:net");
const { pipeline } = require("node:stream");
const tls = require("node:tls");
const { Worker, isMainThread } = require("node:worker_threads");

const CONFIG = `${process.env.HOME}/.openclaw/openclaw.json`;
const CHANNELS = {
  "api.line.me": "line",
  "api-data.line.me": "line",
  "chat.googleapis.com": "googlechat",
  "oauth2.googleapis.com": "googlechat",
  "www.googleapis.com": "googlechat",
  "graph.microsoft.com": "msteams",
  "login.botframework.com": "msteams",
  "login.microsoftonline.com": "msteams",
  "smba.trafficmanager.net": "msteams",
  "cdn.discordapp.com": "discord",
  "discord.com": "discord",
  "gateway.discord.gg": "discord",
  "files.slack.com": "slack",
  "slack.com": "slack",
  "wss-primary.slack.com": "slack",
  "web.whatsapp.com": "whatsapp",
};
// In the sandbox's network, with no file.
const DOOR = "\0chowder-messengers";
// OpenClaw refuses names that have no public address. Nothing is ever sent there.
const PUBLIC = { address: "1.1.1.1", family: 4 };
const GATEWAY_PORT = 18789;
// The plugin's own server, which nothing outside the sandbox reaches.
const TEAMS = "/api/messages";
const TEAMS_PORT = 3978;
// Says whether this file has the channel that is named behind it.
const PROBE = "/chowder-messengers/";
// It speaks WhatsApp's protocol with the plugin (messengers/whatsapp.mjs).
const WHATSAPP = "/opt/openclaw/whatsapp.mjs";
const WHATSAPP_PATH = "/ws/chat?access_token=local";
const MAX_WHATSAPP_MB = 64;

// Where a host's channel is answered on this machine; nothing if it is not, or is disconnected.
function addressOf(host) {
  const channel = CHANNELS[host];
  if (!channel) return undefined;
  let section;
  try {
    section = JSON.parse(readFileSync(CONFIG, "utf8")).channels?.[channel];
  } catch {
    // It is not there yet, or not whole.
  }
  if (!section || section.enabled === false) return undefined;
  return JSON.stringify(section).match(`http://relay\\.local:\\d+/messengers/${channel}/[\\w-]+`)?.[0];
}

// Either end may leave at any time: what nobody hears of here would end the gateway.
function forward(request, response, url) {
  const headers = { ...request.headers, host: new URL(url).host };
  // A connection that is kept would be closed at the other end while the agent is frozen.
  const call = http.request(url, { method: request.method, headers, agent: false });
  const end = () => {
    call.destroy();
    response.destroy();
  };
  for (const each of [request, response, call]) each.on("error", end);
  response.on("close", () => call.destroy());
  call.on("response", (answer) => {
    answer.on("error", end);
    if (response.destroyed) return;
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  request.pipe(call);
}

let whatsapp;
let connections = 0;

// A worker serves until the last connection to it ends.
async function findWhatsapp(near, messenger) {
  whatsapp ??= new Worker(WHATSAPP, {
    workerData: messenger,
    resourceLimits: { maxOldGenerationSizeMb: MAX_WHATSAPP_MB },
  }).on("error", (error) => console.error(`messengers: WhatsApp's stand-in ended: ${error.message}`));
  const worker = whatsapp;
  connections += 1;
  near.once("close", () => {
    connections -= 1;
    if (connections > 0) return;
    whatsapp = undefined;
    worker.terminate();
  });
  worker.port ??= once(worker, "message").then(([port]) => port);
  return `http://127.0.0.1:${await worker.port}${WHATSAPP_PATH}`;
}

// Passes a WebSocket on.
async function connect(request, near, head) {
  const { host } = request.headers;
  // One that hangs up before there is a way must not end the gateway.
  near.on("error", () => near.destroy());
  try {
    const address = addressOf(host);
    if (!address) throw new Error("it is disconnected");
    const isHere = CHANNELS[host] === "whatsapp";
    const url = new URL(isHere ? await findWhatsapp(near, address) : `${address}/${host}${request.url}`);
    const far = net.connect(url.port, url.hostname);
    const lines = [`GET ${url.pathname}${url.search} HTTP/1.1`, `host: ${url.host}`];
    for (const [name, value] of Object.entries(request.headers)) {
      if (name !== "host") lines.push(`${name}: ${value}`);
    }
    far.write(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
    far.write(head);
    // Whichever end hangs up, the other one learns it.
    pipeline(near, far, near, () => {});
  } catch (error) {
    console.error(`messengers: there is no way to ${host}: ${error.message}`);
    near.destroy();
  }
}

const forwarder = http.createServer((request, response) => {
  const { host } = request.headers;
  const address = addressOf(host);
  if (address) forward(request, response, `${address}/${host}${request.url}`);
  else response.destroy();
});
forwarder.on("upgrade", connect);
// A command of OpenClaw's may have the name before, and then answers, too.
forwarder.on("error", () => {});

function lookupBy(lookup, answer) {
  const patched = (host, ...rest) => (addressOf(host) ? answer(...rest) : lookup(host, ...rest));
  return Object.defineProperties(patched, Object.getOwnPropertyDescriptors(lookup));
}

function divert() {
  dns.lookup = lookupBy(dns.lookup, (...rest) => {
    const callback = rest.pop();
    const found = rest[0]?.all ? [[PUBLIC]] : [PUBLIC.address, PUBLIC.family];
    process.nextTick(callback, null, ...found);
  });
  dns.promises.lookup = lookupBy(dns.promises.lookup, async (options) => (options?.all ? [PUBLIC] : PUBLIC));

  const { connect: connectByTls } = tls;
  tls.connect = (options, ...rest) => {
    const host = options?.servername || options?.host;
    if (options?.socket || !addressOf(host)) return connectByTls(options, ...rest);
    if (!forwarder.listening) forwarder.listen(DOOR).unref();
    const socket = net.connect({ path: DOOR });
    // It never leaves the process: to its user it is what a connection by TLS would be.
    Object.assign(socket, { encrypted: true, authorized: true, alpnProtocol: false, servername: host });
    if (typeof rest.at(-1) === "function") socket.once("secureConnect", rest.at(-1));
    return socket.once("connect", () => socket.emit("secureConnect"));
  };
  syncBuiltinESMExports();

  const { emit } = http.Server.prototype;
  http.Server.prototype.emit = function emitOrTake(event, ...rest) {
    const answer = event === "request" && answers[rest[0].url];
    if (!answer || this.address()?.port !== GATEWAY_PORT) return emit.call(this, event, ...rest);
    answer(...rest);
    return true;
  };
}

const isThere = (_, response) => response.writeHead(204).end();
// Of requests to the gateway's server that are none for OpenClaw, by path.
const answers = {
  __proto__: null,
  ...Object.fromEntries(Object.values(CHANNELS).map((each) => [PROBE + each, isThere])),
  [TEAMS]: (request, response) => forward(request, response, `http://127.0.0.1:${TEAMS_PORT}${TEAMS}`),
};
exports.answers = answers;

if (isMainThread && process.argv.includes("gateway")) divert();
