// Collects the garbage of the gateway's main thread while nobody waits for it: some seconds after its
// last answer, and when a request asks, as the server does before it freezes a warm sandbox.
//
// V8 would do it eight seconds after a message by the monotonic clock, which runs on while a container
// is frozen: at the thaw, where the first message took half as long again. `gateway` therefore starts
// Node with `--no-memory-reducer`, which has no effect later on.
"use strict";

const { subscribe } = require("node:diagnostics_channel");
const { getHeapStatistics, setFlagsFromString } = require("node:v8");
const { runInNewContext } = require("node:vm");
const { isMainThread } = require("node:worker_threads");

const HEADER = "x-chowder-collect";
// By the clock of awake.cjs. A round number would meet whoever sends a message every ten seconds.
const QUIET_MS = 11_000;
// Some three turns. Less is not worth half a second in which a message would have to wait.
const WORTH_BYTES = 16 * 2 ** 20;

let collector;
let keptBytes = 0;

function collect() {
  if (collector === undefined) {
    setFlagsFromString("--expose-gc");
    // Not as a global, which would change what OpenClaw's own code does.
    collector = runInNewContext("gc");
  }
  // The only kind that gives memory back to the kernel: 70 MB of an agent that has answered twice.
  collector({ type: "major", flavor: "last-resort" });
  keptBytes = getHeapStatistics().used_heap_size;
}

if (isMainThread && process.argv.includes("gateway")) {
  let open = 0;
  const quiet = setTimeout(() => {
    if (open === 0 && getHeapStatistics().used_heap_size > keptBytes + WORTH_BYTES) collect();
  }, QUIET_MS).unref();

  subscribe("http.server.request.start", ({ request, response }) => {
    if (request.headers[HEADER]) collect();
    if (request.method !== "POST") return;
    open += 1;
    response.once("close", () => {
      open -= 1;
      quiet.refresh();
    });
  });
}
