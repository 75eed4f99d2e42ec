// Fills Node's compile cache during the image build: boots a gateway on throw-away state, lets it
// take one turn a wire format against a stand-in model, and stops it, so that sandboxes boot faster.
// It also notes the JSON schema of the configuration, by which overrides are judged before a boot,
// and keeps the database that it has made, without all that is of this run, for new agents.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { DatabaseSync } from "node:sqlite";

// Where agents have it, too: the database knows of paths.
const home = "/data";
const token = "only-for-the-image-build-0123456789";
const gateway = "http://127.0.0.1:18789";
const [schemaFile, blankFile] = process.argv.slice(2);
const deadlineMs = 600_000;

let log = "";
function fail(words) {
  console.error(`${log.slice(-4000)}\nwarm: ${words}`);
  process.exit(1);
}
const deadline = setTimeout(() => fail("the gateway did not get ready in time"), deadlineMs);

const event = (data) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

function anthropicAnswer(body) {
  // The first call asks for a command, so that the tools' code is warmed too.
  const asksForTool = !body.includes('"tool_result"');
  const block = asksForTool
    ? { type: "tool_use", id: "toolu_1", name: "exec", input: {} }
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

const model = http.createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  if (request.url.startsWith("/anthropic/")) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(anthropicAnswer(body));
  } else {
    // A refusal is enough to have the other formats' clients loaded.
    response.writeHead(400, { "content-type": "application/json" });
    response.end('{"error":{"message":"not now"}}');
  }
});
model.listen(0, "127.0.0.1");
await once(model, "listening");
const modelUrl = `http://127.0.0.1:${model.address().port}`;

const provider = (api, path) => ({ api, baseUrl: modelUrl + path, apiKey: "none", models: [] });
await writeFile(`${home}/.openclaw/openclaw.json`, JSON.stringify({
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
const child = spawn("gateway", ["--bind", "loopback"], {
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

for (const name of ["chowder-anthropic/m", "chowder-openai/m", "chowder-gemini/m"]) {
  for (const stream of [true, false]) {
    const body = { model: "openclaw", input: "hi", stream };
    const { status, text } = await post("/v1/responses", body, { "x-openclaw-model": name });
    console.log(`a turn with ${name}${stream ? ", streamed" : ""}: ${status}`);
    if (name.startsWith("chowder-anthropic") && !text.includes('"ok"')) {
      fail(`no answer in ${text.slice(-2000)}`);
    }
  }
}
await post("/api/v1/admin/rpc", { method: "config.get", params: {} });

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

const told = await post("/api/v1/admin/rpc", { method: "config.schema", params: {} });
const schema = JSON.parse(told.text).payload?.schema;
if (!schema?.properties?.agents) fail(`no schema in ${told.text.slice(0, 2000)}`);
await writeFile(schemaFile, JSON.stringify(bare(schema)));
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

// What every agent's database has after a first start, and nobody is told by: no keys, no identity,
// no times of use. All other tables are left empty.
const common = {
  schema_meta: "1",
  migration_runs: "1",
  migration_sources: "1",
  config_machine_state: "state_key IN ('auth.sharedStore', 'plugins.installedIndex')",
  plugin_state_entries: "namespace LIKE '%migration-state'",
};
const database = new DatabaseSync(`${home}/.openclaw/state/openclaw.sqlite`);
const tables = database
  .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
  .all();
database.exec("PRAGMA foreign_keys = OFF");
for (const { name } of tables) {
  database.exec(`DELETE FROM "${name}" WHERE NOT (${common[name] ?? "0"})`);
}
// Anew, so that nothing of what was deleted is left between its pages.
database.prepare("VACUUM INTO ?").run(blankFile);
database.close();
for (const name of await readdir(home)) await rm(`${home}/${name}`, { recursive: true });
await mkdir(`${home}/.openclaw/workspace`, { recursive: true, mode: 0o700 });
