// Changes constants and single expressions in OpenClaw's code.
//
// Idle workers: its worker threads and open databases are kept for a day after their last use. It ends
// the threads after half a minute or a minute, and closes databases after half an hour; the next
// message takes three to five times as long, as it opens them anew.
//
// Each minute it also looks for conversations on remote workers, of which a sandbox has none, and
// starts the thread that reads conversations anew. Here it does so once a day.
//
// It collects the garbage of a thread as soon as that has no task, which in a boot is while the rest
// waits for the processor. Here it does so 0.9 seconds later.
//
// Cheaper turns: it writes a second log of each run, seven events of together 24 KB, unless
// `OPENCLAW_TRAJECTORY` is 0. Here it does if that is 1, which an agent's configuration can say in
// `env.vars`.
//
// At each change of a conversation, several times in a turn, it computes anew the row that a list of
// conversations would show. Here it does so a second later, for all changes until then. A list that is
// asked for has them at once.
//
// Job history: it forgets the run of a job after a week of the agent's clock, which can pass in a
// minute. Here it does after ten years; it still keeps 2,000 runs of a job at most.
//
// Sub-agents' approvals: the turn of a sub-agent, and the one that reports its result, may not ask for
// an approval, since they have only the right to write. Here they may ask and wait for the decision.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { unfit } from "./unfit.mjs";

const dist = path.resolve(process.argv[2]);
const idleWorkers = [
  [/\b(IDLE_EXECUTION_MS = )6e4\b/g, (_, name) => `${name}864e5`],
  [/\b(idleTimeoutMs \?\? )6e4\b/g, (_, name) => `${name}864e5`],
  [/\b(idleTimeoutMs: )3e4\b/g, (_, name) => `${name}864e5`],
  [/\b(SQLITE_IDLE_HANDLE_TTL_MS = )18e5\b/g, (_, name) => `${name}864e5`],
  [/\b(pending = )setImmediate\(/g, (_, name) => `${name}((collect) => setTimeout(collect, 900))(`],
  [/\bclearImmediate(\(pending\))/g, (_, argument) => `clearTimeout${argument}`],
  [/\b(WORKER_PLACEMENT_RECONCILE_INTERVAL_MS = )6e4\b/g, (_, name) => `${name}864e5`],
];
const cheaperTurns = [
  [/\b(parseBooleanValue\(env\.OPENCLAW_TRAJECTORY\)\s*\?\?\s*)true\b/g, (_, value) => `${value}false`],
  [
    /\bensureMaterialized\(\)\.catch\(\(\)\s*=>\s*\{\s*\}\)/g,
    (refresh) =>
      `(ensureMaterialized.later ??= setTimeout(() => { ensureMaterialized.later = void 0; ${refresh}; }, 1e3).unref())`,
  ],
  [
    /\b(pending = )(inOwnerContext\(drain\))(?=\.then\()/g,
    (_, name, drain) => `${name}new Promise((go) => setTimeout(go, 1e3).unref()).then(() => ${drain})`,
  ],
];
const jobHistory = [
  [
    /(\bnow\s*>=\s*)(resolveEffectiveTaskCleanupAfter\(task\))/g,
    (_, compared, time) => `${compared}${time} + (task.runtime === "cron" ? 31536e7 : 0)`,
  ],
];
const subagentApprovals = [
  [
    /(\bscopedSystemScopes\s*=\s*options\?\.syntheticScopeMode\s*!==\s*void 0)(?=\s*&&\s*scopedActor\?\.kind\s*===\s*"system")/g,
    (condition) => `${condition} && method !== "exec.approval.request" && method !== "exec.approval.waitDecision"`,
  ],
];
const changes = [
  ...idleWorkers.map((change) => ["idle workers", ...change]),
  ...cheaperTurns.map((change) => ["cheaper turns", ...change]),
  ...jobHistory.map((change) => ["job history", ...change]),
  ...subagentApprovals.map((change) => ["sub-agents' approvals", ...change]),
];

const counts = changes.map(() => 0);
const scripts = readdirSync(dist, { recursive: true });
for (const name of scripts.filter((each) => /(\.mjs|\.worker\.js)$/.test(each))) {
  const file = path.join(dist, name);
  const text = readFileSync(file, "utf8");
  let changed = text;
  changes.forEach(([, pattern, replacement], index) => {
    counts[index] += changed.match(pattern)?.length ?? 0;
    changed = changed.replace(pattern, replacement);
  });
  if (changed !== text) writeFileSync(file, changed);
}
changes.forEach(([shortcut, pattern], index) => {
  if (!counts[index]) unfit(shortcut, `there is no ${pattern.source}`);
});
