// Sets the agent's clock and the seed of its ids: a request with the header writes the record that native/clock.c maps into
// every program, so that the clock is set before the request is answered. Where the image has no such
// library, only `Date` of the gateway and its workers follows.
"use strict";

const { subscribe } = require("node:diagnostics_channel");
const { closeSync, existsSync, openSync, readFileSync, readSync, writeSync } = require("node:fs");
const { getEnvironmentData, isMainThread, setEnvironmentData } = require("node:worker_threads");

const { setSeed } = require("./seed.cjs");

const RECORD = "/data/.openclaw/chowder-clock";
const LIBRARY = "/usr/local/lib/chowder-clock.so";
// `<offset in ns> <fixed time in ns, or 0> <seed, or ->`; `?` asks whether the image has a clock.
const HEADER = "x-chowder-clock";
const KEY = "chowder-clock";
// See `struct record`.
const SLOTS_AT = 16;
const SLOT_BYTES = 16;
const SEED_AT = 48;

const isGateway = isMainThread && process.argv.includes("gateway");

function writeRecord(offsetNs, fixedNs, seed) {
  const file = openSync(RECORD, "r+");
  try {
    const next = Buffer.alloc(1);
    readSync(file, next, 0, 1, 0);
    next[0] = 1 - (next[0] & 1);
    const slot = Buffer.alloc(SLOT_BYTES);
    slot.writeBigInt64LE(offsetNs, 0);
    slot.writeBigInt64LE(fixedNs, 8);
    writeSync(file, slot, 0, SLOT_BYTES, SLOTS_AT + next[0] * SLOT_BYTES);
    writeSync(file, next, 0, 1, 0);
    // 0 is none.
    slot.writeBigInt64LE(seed === undefined ? 0n : seed + 1n, 0);
    writeSync(file, slot, 0, 8, SEED_AT);
  } finally {
    closeSync(file);
  }
}

function readRecord() {
  const record = existsSync(RECORD) ? readFileSync(RECORD) : Buffer.alloc(0);
  if (record.length < SEED_AT + 8) return [0n, 0n];
  const at = SLOTS_AT + (record[0] & 1) * SLOT_BYTES;
  const seed = record.readBigInt64LE(SEED_AT);
  return [record.readBigInt64LE(at), record.readBigInt64LE(at + 8), seed ? seed - 1n : undefined];
}

// The plain way: offset and fixed time in milliseconds, in memory that all threads share.
function moveDates() {
  let shared = getEnvironmentData(KEY);
  if (!shared) {
    shared = new SharedArrayBuffer(16);
    setEnvironmentData(KEY, shared);
  }
  const times = new Float64Array(shared);
  const Machine = Date;
  const machineNow = Machine.now;
  const now = () => times[1] || Math.floor(machineNow() + times[0]);
  // Only calls without a time are other ones.
  globalThis.Date = new Proxy(Machine, {
    apply: () => new Machine(now()).toString(),
    construct: (_, parts, target) => Reflect.construct(Machine, parts.length ? parts : [now()], target),
    get: (target, name) => (name === "now" ? now : Reflect.get(target, name)),
  });
  Machine.prototype.constructor = globalThis.Date;
  return (offsetNs, fixedNs) => {
    times[0] = Number(offsetNs / 1_000_000n);
    times[1] = Number(fixedNs / 1_000_000n);
  };
}

const inThreads = existsSync(LIBRARY) ? () => {} : moveDates();

function take(offsetNs, fixedNs, seed) {
  inThreads(offsetNs, fixedNs);
  setSeed(seed === undefined ? undefined : String(seed));
}

if (isGateway) {
  take(...readRecord());
  subscribe("http.server.request.start", ({ request, response }) => {
    const text = request.headers[HEADER];
    if (!text) return;
    // An older image answers as well, and moves nothing.
    response.setHeader(HEADER, "?");
    if (text === "?") return;
    const [offsetNs, fixedNs, seed] = text.split(" ").map((part) => (part === "-" ? undefined : BigInt(part)));
    writeRecord(offsetNs, fixedNs, seed);
    take(offsetNs, fixedNs, seed);
  });
}
