// Node keeps what it read from its compile cache until it is written out, though a module that is
// compiled has no more use for it: some 60 MB in a gateway's dozen threads. Workers get this by
// NODE_OPTIONS alone, and so do the agent's own programs, which are left as they are.
const { flushCompileCache } = require("node:module");
const { isMainThread } = require("node:worker_threads");

// Most of a boot's threads start at its end, and load at once what they need.
if (!isMainThread) setInterval(flushCompileCache, 2_000).unref();
else if (/\/openclaw\.mjs$/.test(process.argv[1])) setInterval(flushCompileCache, 5_000).unref();
