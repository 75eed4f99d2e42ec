// Keeps the database that the gateway's first start has made, without all that is of this run.
import { DatabaseSync } from "node:sqlite";
import { hashOf } from "/opt/openclaw/begin.mjs";

// What every agent's database has after a first start, and nobody is told by: no keys, no identity,
// no times of use. All other tables are left empty.
const common = {
  schema_meta: "1",
  migration_runs: "1",
  migration_sources: "1",
  config_machine_state: "state_key IN ('auth.sharedStore', 'plugins.installedIndex')",
  plugin_state_entries: "namespace LIKE '%migration-state'",
};

/** Writes it to `target`. Throws if `begin.mjs` could not make it fit another configuration. */
export function keepBlank(file, config, target) {
  const database = new DatabaseSync(file);
  try {
    const marks = database
      .prepare("SELECT app_version FROM schema_meta WHERE meta_key LIKE '%-migrations'")
      .all();
    const hash = hashOf(config);
    const isKnown = ({ app_version }) => app_version.split("\n").slice(3, 5).every((one) => one === hash);
    if (marks.length === 0 || !marks.every(isKnown)) {
      throw new Error("it notes its migrations in another way");
    }
    const tables = database
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
      .all();
    database.exec("PRAGMA foreign_keys = OFF");
    for (const { name } of tables) {
      database.exec(`DELETE FROM "${name}" WHERE NOT (${common[name] ?? "0"})`);
    }
    // Anew, so that nothing of what was deleted is left between its pages.
    database.prepare("VACUUM INTO ?").run(target);
  } finally {
    database.close();
  }
}
