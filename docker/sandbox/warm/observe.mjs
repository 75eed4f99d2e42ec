// What the server has to know about this release of OpenClaw: each shortcut that the server takes
// leans on some of it. `chowder_local/openclaw/shortcuts` judges by it which of them fit.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";

const PACKAGE = "/opt/openclaw/node_modules/openclaw";
const NOTES = "/opt/openclaw/unfit.jsonl";
const DATABASES = {
  conversations: "agents/main/agent/openclaw-agent.sqlite",
  state: "state/openclaw.sqlite",
};

/** The tables of a database with their columns; undefined if OpenClaw keeps it elsewhere. */
function tablesOf(file) {
  if (!existsSync(file)) return undefined;
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    const columns = database.prepare(`
      SELECT t.name AS name, c.name AS column FROM sqlite_master t, pragma_table_info(t.name) c
      WHERE t.type = 'table' ORDER BY t.name, c.cid`).all();
    const tables = {};
    for (const { name, column } of columns) (tables[name] ??= []).push(column);
    return tables;
  } finally {
    database.close();
  }
}

/** The messages of the longest conversation, as they are stored. */
function storedMessages(file) {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    const rows = database.prepare(`
      SELECT event_json AS text FROM transcript_events WHERE event_json LIKE '{"type":"message"%'
      ORDER BY session_id, seq LIMIT 8`).all();
    return rows.map(({ text }) => JSON.parse(text).message);
  } catch {
    return [];
  } finally {
    database.close();
  }
}

/** What was found out about the packages while they were installed. */
function notes() {
  const lines = existsSync(NOTES) ? readFileSync(NOTES, "utf8").trim().split("\n") : [];
  const unfit = {};
  for (const { shortcut, reason } of lines.map((line) => JSON.parse(line))) {
    unfit[shortcut] = unfit[shortcut] ? `${unfit[shortcut]}; ${reason}` : reason;
  }
  return unfit;
}

/** The shortcuts that fit or not, whether or not anything has to be made in the packages for them. */
function launching() {
  const unfit = {};
  const launcher = readFileSync(`${PACKAGE}/openclaw.mjs`, "utf8");
  if (!launcher.includes("OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED")) {
    unfit["single process"] = "its launcher does not know the variable";
  }
  if (!readdirSync(`${PACKAGE}/dist`).some((name) => /-[\w-]{8}\.mjs$/.test(name))) {
    unfit["found modules"] = "none of its modules is named by its content";
  }
  if (!existsSync("/etc/ld.so.preload")) {
    unfit["program clock"] = "the image was built without a C compiler, or its library does not work";
  }
  return unfit;
}

/** Everything that can be read from files once the gateway has ended. */
export function observeFiles(state) {
  const paths = Object.entries(DATABASES).map(([name, path]) => [name, `${state}/${path}`]);
  const tables = paths.map(([name, file]) => [name, tablesOf(file) ?? null]);
  const { version } = JSON.parse(readFileSync(`${PACKAGE}/package.json`, "utf8"));
  return {
    openclaw: version,
    unfit: { ...notes(), ...launching() },
    home: readdirSync(state).sort(),
    tables: Object.fromEntries(tables),
    messages: existsSync(paths[0][1]) ? storedMessages(paths[0][1]) : [],
  };
}
