// Keeps OpenClaw's worker threads and open databases for a day after their last use. It ends the
// threads after half a minute or a minute, and closes databases after half an hour; the next message
// takes three to five times as long, as it opens them anew.
//
// Each minute it also looks for conversations on remote workers, of which a sandbox has none, and
// starts the thread that reads conversations anew. Here it does so once a day.
//
// It collects the garbage of a thread as soon as that has no task, which in a boot is while the rest
// waits for the processor. Here it does so 0.9 seconds later.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { unfit } from "./unfit.mjs";

const dist = path.resolve(process.argv[2]);
const changes = [
  [/\b(IDLE_EXECUTION_MS = )6e4\b/g, (_, name) => `${name}864e5`],
  [/\b(idleTimeoutMs \?\? )6e4\b/g, (_, name) => `${name}864e5`],
  [/\b(idleTimeoutMs: )3e4\b/g, (_, name) => `${name}864e5`],
  [/\b(SQLITE_IDLE_HANDLE_TTL_MS = )18e5\b/g, (_, name) => `${name}864e5`],
  [/\b(pending = )setImmediate\(/g, (_, name) => `${name}((collect) => setTimeout(collect, 900))(`],
  [/\bclearImmediate(\(pending\))/g, (_, argument) => `clearTimeout${argument}`],
  [/\b(WORKER_PLACEMENT_RECONCILE_INTERVAL_MS = )6e4\b/g, (_, name) => `${name}864e5`],
];

const counts = changes.map(() => 0);
const scripts = readdirSync(dist, { recursive: true });
for (const name of scripts.filter((each) => /(\.mjs|\.worker\.js)$/.test(each))) {
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
