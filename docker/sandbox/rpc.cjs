// What a control call sets off goes on without it. OpenClaw applies a new configuration in a timer of the
// call that has brought it, and a channel that is connected so would serve people in the call's context for
// good: there, OpenClaw refuses the agent some tools once the call is over, such as a reaction in Telegram.
// So the timers of control calls run outside of them, as if OpenClaw had seen the file change.
"use strict";

const { AsyncLocalStorage } = require("node:async_hooks");
const http = require("node:http");
const { isMainThread } = require("node:worker_threads");

const PATH = "/api/v1/admin/rpc";

function release() {
  const outside = AsyncLocalStorage.snapshot();
  const calls = new AsyncLocalStorage();
  const { emit } = http.Server.prototype;
  http.Server.prototype.emit = function emitInCall(event, ...rest) {
    if (event !== "request" || rest[0].url !== PATH) return emit.call(this, event, ...rest);
    return calls.run(true, () => emit.call(this, event, ...rest));
  };
  const { setTimeout } = globalThis;
  const setTimeoutOutside = (callback, ...rest) => {
    if (!calls.getStore() || typeof callback !== "function") return setTimeout(callback, ...rest);
    return setTimeout((...args) => outside(callback, ...args), ...rest);
  };
  globalThis.setTimeout = Object.defineProperties(
    setTimeoutOutside,
    Object.getOwnPropertyDescriptors(setTimeout),
  );
}

if (isMainThread && process.argv.includes("gateway")) release();
