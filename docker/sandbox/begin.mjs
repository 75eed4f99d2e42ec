// Gives a new agent the database that OpenClaw would make at its first start. To make it, and to
// look for what of older versions is to be moved into it, takes some 3 CPU-seconds; OpenClaw skips
// that where the database says that it was done under this very configuration, by a hash of it.
// Of what does not fit after all, OpenClaw finds that out, and does it as ever.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";

// As OpenClaw's hashRuntimeConfigValue and stableConfigStringify (dist/runtime-snapshot-*.mjs) do.
function canonical(value) {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const pairs = Object.keys(value).toSorted().map((key) => [key, canonical(value[key])]);
  return `{${pairs.map(([key, below]) => `${JSON.stringify(key)}:${below}`).join(",")}}`;
}

/** OpenClaw's hash of a configuration file's content; the image's build tries it. */
export function hashOf(text) {
  const config = JSON.parse(text);
  // It reads a configuration without agents as one with this.
  config.agents = { ...config.agents };
  config.agents.entries ??= { main: {} };
  return createHash("sha256").update(canonical(config)).digest("base64url");
}

function begin(template, folder) {
  const hash = hashOf(readFileSync(`${folder}/openclaw.json`, "utf8"));
  const state = `${folder}/state`;
  const unfinished = `${state}/.begun.sqlite`;
  mkdirSync(state, { mode: 0o700, recursive: true });
  copyFileSync(template, unfinished);
  const database = new DatabaseSync(unfinished);
  const marks = database
    .prepare("SELECT meta_key, app_version FROM schema_meta WHERE meta_key LIKE '%-migrations'")
    .all();
  for (const { meta_key, app_version } of marks) {
    // Version, format, build, two configurations, plugins.
    const mark = app_version.split("\n");
    mark[3] = mark[4] = hash;
    database
      .prepare("UPDATE schema_meta SET app_version = ? WHERE meta_key = ?")
      .run(mark.join("\n"), meta_key);
  }
  database.close();
  renameSync(unfinished, `${state}/openclaw.sqlite`);
}

if (import.meta.main) begin(...process.argv.slice(2));
