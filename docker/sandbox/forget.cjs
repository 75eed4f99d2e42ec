// Node keeps what it read from its compile cache until it is written out, though a module that is
// compiled has no more use for it: some 60 MB in a gateway's dozen threads. Workers get this by
// NODE_OPTIONS alone, and so do the agent's own programs, which are left as they are.
const { flushCompileCache } = require("node:module");
const { isMainThread } = require("node:worker_threads");

if (!isMainThread || /\/openclaw\.mjs$/.test(process.argv[1])) {
  setInterval(flushCompileCache, 5_000).unref();
}
