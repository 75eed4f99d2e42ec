// Keeps OpenClaw's worker threads and open databases for a day after their last use. It ends the
// threads after half a minute or a minute, and closes databases after half an hour; the next message
// takes three to five times as long, as it opens them anew.
//
// Each minute it also looks for conversations on remote workers, of which a sandbox has none, and
// starts the thread that reads conversations anew. Here it does so once a day.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { unfit } from "./unfit.mjs";

const dist = path.resolve(process.argv[2]);
const changes = [
  [/\b(IDLE_EXECUTION_MS = )6e4\b/g, (_, name) => `${name}864e5`],
  [/\b(idleTimeoutMs \?\? )6e4\b/g, (_, name) => `${name}864e5`],
  [/\b(idleTimeoutMs: )3e4\b/g, (_, name) => `${name}864e5`],
  [/\b(SQLITE_IDLE_HANDLE_TTL_MS = )18e5\b/g, (_, name) => `${name}864e5`],
  [/\b(WORKER_PLACEMENT_RECONCILE_INTERVAL_MS = )6e4\b/g, (_, name) => `${name}864e5`],
];

const counts = changes.map(() => 0);
for (const name of readdirSync(dist).filter((each) => each.endsWith(".mjs"))) {
  const file = path.join(dist, name);
  const text = readFileSync(file, "utf8");
  let changed = text;
  changes.forEach(([pattern, replacement], index) => {
    counts[index] += changed.match(pattern)?.length ?? 0;
    changed = changed.replace(pattern, replacement);
  });
  if (changed !== text) writeFileSync(file, changed);
}
changes.forEach(([pattern], index) => {
  if (!counts[index]) unfit("idle workers", `there is no ${pattern.source}`);
});
