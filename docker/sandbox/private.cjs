// Keeps what OpenClaw's processes have in memory from the agent's programs, which run as the same user
// (native/private.c): whoever uses the sandbox next must not find there what another agent was told.
"use strict";

const { existsSync } = require("node:fs");
const { isMainThread } = require("node:worker_threads");

const LIBRARY = "/usr/local/lib/chowder-private.so";

if (isMainThread && process.argv[1]?.startsWith("/opt/openclaw/node_modules/openclaw/") && existsSync(LIBRARY)) {
  process.dlopen({ exports: {} }, LIBRARY);
}
