// Collects the garbage of the gateway's main thread while nobody waits for it: once it has started,
// after its first answer, some seconds after its last answer, and when a request asks, as the server
// does before it freezes a warm sandbox. OpenClaw's helper processes, which stay, are collected once.
//
// V8 would do it eight seconds after a message by the monotonic clock, which runs on while a container
// is frozen: at the thaw, where the first message took half as long again. `gateway` therefore starts
// Node with `--no-memory-reducer`, which has no effect later on.
//
// Nearly all that a boot makes is kept. `gateway` gives the main thread so much room that little of it
// is collected in vain, and the first collection gives that room back.
"use strict";

const { subscribe } = require("node:diagnostics_channel");
const { flushCompileCache } = require("node:module");
const { getHeapStatistics, setFlagsFromString } = require("node:v8");
const { runInNewContext } = require("node:vm");
const { isMainThread } = require("node:worker_threads");

// They are the same from here to the end: V8 takes code from the compile cache only under the flags
// under which it was compiled.
const FLAGS = [
  // By default a heap that allocates little for its age is collected whole after a tenth more, which
  // is every second or third message of an agent.
  "--heap-growing-percent=30",
  // The main thread has its room already; some ten others would each keep as much.
  "--min-semi-space-size=0",
  "--max-semi-space-size=2",
  "--initial-heap-size=96",
];

const HEADER = "x-chowder-collect";
// By the clock of awake.cjs. A round number would meet whoever sends a message every ten seconds.
const QUIET_MS = 11_000;
// Whoever has something to say to a new agent does so at once. The first answer leaves as much garbage
// as the start, since it loads as much.
const STARTED_MS = 800;
// A gateway starts its helpers three seconds before it is ready.
const HELPER_MS = 3_000;
// Some three turns. Less is not worth half a second in which a message would have to wait.
const WORTH_BYTES = 16 * 2 ** 20;

const PLAIN = "regular";
const THOROUGH = "last-resort";

let collector;
let keptBytes = 0;

// Not as a global, which would change what OpenClaw's own code does.
function makeCollector() {
  setFlagsFromString("--expose-gc");
  collector = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
}

// The thorough kind alone gives memory back to the kernel, 70 MB of an agent that has answered twice,
// and takes three times as long: as much as four turns.
function collect(flavor) {
  // See forget.cjs: what is kept for the compile cache is no more use either.
  flushCompileCache();
  collector({ type: "major", flavor });
  keptBytes = getHeapStatistics().used_heap_size;
}

if (isMainThread && /\/openclaw\/dist\/.*\bworker\.js$/.test(process.argv[1])) {
  setTimeout(() => {
    makeCollector();
    collect(THOROUGH);
  }, HELPER_MS).unref();
}

if (isMainThread && process.argv.includes("gateway")) {
  FLAGS.forEach((flag) => setFlagsFromString(flag));
  makeCollector();
  let open = 0;
  let hasStarted = false;
  let hasAnswered = false;
  function collectIfQuiet(flavor) {
    if (open === 0 && getHeapStatistics().used_heap_size > keptBytes + WORTH_BYTES) collect(flavor);
  }
  const quiet = setTimeout(collectIfQuiet, QUIET_MS, PLAIN).unref();

  subscribe("http.server.request.start", ({ request, response }) => {
    if (request.headers[HEADER]) collect(THOROUGH);
    if (!hasStarted && request.url === "/startupz") {
      response.once("close", () => {
        if (hasStarted || response.statusCode !== 200) return;
        hasStarted = true;
        setTimeout(collectIfQuiet, STARTED_MS, THOROUGH).unref();
      });
    }
    if (request.method !== "POST") return;
    open += 1;
    response.once("close", () => {
      open -= 1;
      quiet.refresh();
      if (!hasAnswered) setTimeout(collectIfQuiet, STARTED_MS, THOROUGH).unref();
      hasAnswered = true;
    });
  });
}
