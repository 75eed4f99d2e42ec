// Long timers count the time that the process is awake. The kernel's monotonic clock runs on while a
// container is frozen, so that at the thaw all of OpenClaw's timers would be due at once: its
// workers end, its databases close, and the first message waits for all of that.
//
// A long timer ticks in short steps instead. A freeze delays one step, whatever it lasts, and only
// what was left of the timer follows. `Date` is not touched.
//
// Nor does V8 drop compiled code that has not run for a while, which the next message needs.
"use strict";

const { syncBuiltinESMExports } = require("node:module");
const timers = require("node:timers");
const promises = require("node:timers/promises");
const { promisify } = require("node:util");
const { setFlagsFromString } = require("node:v8");

setFlagsFromString("--no-flush-bytecode");

const STEP_MS = 2_000;
const LONG_MS = 10_000;
// A longer delay is one of 1 ms to Node.
const MAX_MS = 2 ** 31 - 1;

const { setTimeout: nodeTimeout, setInterval: nodeInterval } = timers;

// The delay that Node would take, if it is a long one.
function longDelay(delay) {
  const ms = Number(delay);
  return ms >= LONG_MS && ms <= MAX_MS ? ms : undefined;
}

// `start` is Node's own setTimeout or setInterval.
function inSteps(start, callback, delay, args) {
  const ms = longDelay(delay);
  if (ms === undefined || typeof callback !== "function") return start(callback, delay, ...args);
  const steps = Math.ceil(ms / STEP_MS);
  let left = steps;
  const timer = start(function tick() {
    left -= 1;
    if (left > 0) {
      if (start === nodeTimeout) restart.call(timer);
      return;
    }
    left = steps;
    callback.apply(timer, args);
  }, ms / steps);
  const restart = timer.refresh;
  timer.refresh = function refresh() {
    left = steps;
    return restart.call(timer);
  };
  return timer;
}

const setTimeout = (callback, delay, ...args) => inSteps(nodeTimeout, callback, delay, args);
const setInterval = (callback, delay, ...args) => inSteps(nodeInterval, callback, delay, args);

function sleep(delay, value, options = {}) {
  const ms = longDelay(delay);
  if (ms === undefined) return nodeSleep(delay, value, options);
  const { signal, ref = true } = options;
  if (signal?.aborted) return Promise.reject(abortError(signal));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve(value);
    }, ms);
    if (!ref) timer.unref();
    function abort() {
      clearTimeout(timer);
      reject(abortError(signal));
    }
    signal?.addEventListener("abort", abort, { once: true });
  });
}
const nodeSleep = promises.setTimeout;

function abortError(signal) {
  const error = new Error("The operation was aborted", { cause: signal.reason });
  return Object.assign(error, { name: "AbortError", code: "ABORT_ERR" });
}

Object.defineProperty(setTimeout, promisify.custom, { enumerable: true, value: sleep });
timers.setTimeout = globalThis.setTimeout = setTimeout;
timers.setInterval = globalThis.setInterval = setInterval;
promises.setTimeout = sleep;
syncBuiltinESMExports();

const nodeSignal = AbortSignal.timeout;
AbortSignal.timeout = function timeout(delay) {
  if (longDelay(delay) === undefined) return nodeSignal.call(AbortSignal, delay);
  const controller = new AbortController();
  const reason = () => new DOMException("The operation was aborted due to timeout", "TimeoutError");
  setTimeout(() => controller.abort(reason()), delay).unref();
  return controller.signal;
};
