// Fills Node's compile cache during the image build: boots a gateway on throw-away state, lets it
// take one turn a wire format against a stand-in model, and stops it, so that sandboxes boot faster.
// It also notes the JSON schema of the configuration, by which overrides are judged before a boot,
// and what is seen of OpenClaw's inside, and keeps the database that was made for new agents.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { keepBlank } from "./blank.mjs";
import { observeFiles } from "./observe.mjs";

// Where agents have it, too: the database knows of paths.
const home = "/data";
const token = "only-for-the-image-build-0123456789";
const gateway = "http://127.0.0.1:18789";
const state = `${home}/.openclaw`;
const [target] = process.argv.slice(2);
// As the relay's: OpenClaw passes it on in its own error.
const marker = `relay-failure-${"0123456789abcdef".repeat(2)}-geg`;
const deadlineMs = 600_000;

let log = "";
let child;
function fail(words) {
  child?.kill("SIGKILL");
  console.error(`${log.slice(-4000)}\nwarm: ${words}`);
  process.exit(1);
}
const deadline = setTimeout(() => fail("the gateway did not get ready in time"), deadlineMs);

// A client's own function.
const lookup = {
  type: "function",
  name: "lookup_of_a_client",
  parameters: { type: "object", properties: { command: { type: "string" } } },
};

const event = (data) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

function anthropicAnswer(body) {
  // The first call asks for a command, so that the tools' code is warmed too.
  const asksForTool = !body.includes('"tool_result"');
  const name = body.includes(`"${lookup.name}"`) ? lookup.name : "exec";
  const block = asksForTool
    ? { type: "tool_use", id: "toolu_1", name, input: {} }
    : { type: "text", text: "" };
  const delta = asksForTool
    ? { type: "input_json_delta", partial_json: '{"command":"true"}' }
    : { type: "text_delta", text: "ok" };
  const usage = { input_tokens: 1, output_tokens: 1 };
  const message = { id: "msg_1", type: "message", role: "assistant", model: "m", content: [], usage };
  const stop_reason = asksForTool ? "tool_use" : "end_turn";
  return [
    { type: "message_start", message: { ...message, stop_reason: null, stop_sequence: null } },
    { type: "content_block_start", index: 0, content_block: block },
    { type: "content_block_delta", index: 0, delta },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: { stop_reason, stop_sequence: null }, usage },
    { type: "message_stop" },
  ].map(event).join("");
}

let prompt;
const model = http.createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  if (request.url.startsWith("/anthropic/")) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(anthropicAnswer((prompt = body)));
  } else {
    // A refusal is enough to have the other formats' clients loaded.
    response.writeHead(400, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { message: marker } }));
  }
});
model.listen(0, "127.0.0.1");
await once(model, "listening");
const modelUrl = `http://127.0.0.1:${model.address().port}`;

const provider = (api, path) => ({ api, baseUrl: modelUrl + path, apiKey: "none", models: [] });
await writeFile(`${state}/openclaw.json`, JSON.stringify({
  gateway: {
    mode: "local",
    auth: { mode: "token", token },
    controlUi: { enabled: false },
    http: { endpoints: { responses: { enabled: true } } },
  },
  tools: { toolSearch: { mode: "directory" } },
  plugins: { entries: { "admin-http-rpc": { enabled: true } } },
  models: {
    providers: {
      "chowder-anthropic": provider("anthropic-messages", "/anthropic"),
      "chowder-openai": provider("openai-responses", "/openai"),
      "chowder-gemini": provider("google-generative-ai", "/gemini"),
    },
  },
  agents: { defaults: { model: "chowder-anthropic/m", utilityModel: "" } },
  memory: { search: { provider: "none" } },
}));

const env = { ...process.env, HOME: home };
child = spawn("gateway", ["--bind", "loopback"], {
  env,
  stdio: ["ignore", "pipe", "pipe"],
});
for (const output of [child.stdout, child.stderr]) output.on("data", (text) => (log += text));
child.once("exit", (code) => code === 0 || fail(`the gateway ended with code ${code}`));

async function answers(path, options) {
  try {
    return await fetch(gateway + path, options);
  } catch {
    return undefined;
  }
}

while ((await answers("/startupz"))?.status !== 200) {
  await new Promise((done) => setTimeout(done, 200));
}
console.log("the gateway is ready");

async function post(path, body, headers = {}) {
  const response = await fetch(gateway + path, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, text: await response.text() };
}

const config = await readFile(`${state}/openclaw.json`, "utf8");
const failures = [];
for (const name of ["chowder-anthropic/m", "chowder-openai/m", "chowder-gemini/m"]) {
  for (const stream of [true, false]) {
    const body = { model: "openclaw", input: "hi", stream };
    const { status, text } = await post("/v1/responses", body, { "x-openclaw-model": name });
    console.log(`a turn with ${name}${stream ? ", streamed" : ""}: ${status}`);
    if (!name.startsWith("chowder-anthropic")) failures.push(text.slice(0, 4000));
    else if (!text.includes('"ok"')) fail(`no answer in ${text.slice(-2000)}`);
  }
}

// A conversation with all that OpenClaw changes in a client's messages before a model gets them.
const said = (role, content) => ({ type: "message", role, content });
async function converse(input) {
  const headers = { "x-openclaw-model": "chowder-anthropic/m", "x-openclaw-session-key": "agent:main:seen" };
  const { text } = await post("/v1/responses", { model: "openclaw", input, tools: [lookup] }, headers);
  return JSON.parse(text).output ?? [];
}
const output = await converse([said("user", "first"), said("assistant", "answer"), said("user", "look")]);
const { call_id } = output.find(({ type }) => type === "function_call") ?? {};
await converse([{ type: "function_call_output", call_id, output: "found" }]);

async function call(method) {
  const { text } = await post("/api/v1/admin/rpc", { method, params: {} });
  return JSON.parse(text).payload;
}

const answered = {};
for (const method of ["config.get", "health", "cron.list"]) answered[method] = await call(method);
const processes = execFileSync("ps", ["-eo", "args", "--no-headers"], { encoding: "utf8" });

// Titles, descriptions and defaults are for people; without them it is half as long.
function bare(schema) {
  if (Array.isArray(schema)) return schema.map(bare);
  if (schema === null || typeof schema !== "object") return schema;
  const { title, description, default: _, properties, ...rest } = schema;
  for (const key of Object.keys(rest)) {
    if (key !== "const" && key !== "enum") rest[key] = bare(rest[key]);
  }
  if (properties === undefined) return rest;
  // What is called `title` in here is a setting's name.
  const named = Object.entries(properties).map(([name, below]) => [name, bare(below)]);
  return { ...rest, properties: Object.fromEntries(named) };
}

const schema = (await call("config.schema"))?.schema;
if (!schema?.properties?.agents) fail("no schema of the configuration");
await writeFile(`${target}/config-schema.json`, JSON.stringify(bare(schema)));
// The command line is what deletes sessions; its code is another bundle.
await once(spawn("openclaw", ["sessions", "delete", "agent:main:none", "--yes", "--json"], {
  env,
  stdio: "ignore",
}), "exit");

child.kill("SIGTERM");
await once(child, "exit");
model.close();
model.closeAllConnections();
clearTimeout(deadline);

const seen = observeFiles(state);
try {
  keepBlank(`${state}/state/openclaw.sqlite`, config, `${target}/blank.sqlite`);
} catch (error) {
  seen.unfit["prepared database"] = error.message;
}
const { system, messages } = JSON.parse(prompt);
const observations = {
  ...seen,
  answers: answered,
  failures,
  marker,
  processes: processes.trim().split("\n"),
  prompt: { system, messages },
};
await writeFile(`${target}/observations.json`, JSON.stringify(observations));
for (const [shortcut, reason] of Object.entries(seen.unfit)) console.log(`without ${shortcut}: ${reason}`);
for (const name of await readdir(home)) await rm(`${home}/${name}`, { recursive: true });
await mkdir(`${state}/workspace`, { recursive: true, mode: 0o700 });
