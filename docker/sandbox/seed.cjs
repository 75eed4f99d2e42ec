// Random ids that follow from a seed, so that a second run has the same: those of conversations, jobs,
// answers and sub-agents, and the names of background commands. Secrets stay random (`randomBytes`).
//
// Each place that asks counts for itself, since what runs beside it asks in any order. The counts are
// kept in the home: an id that is used there must not come again after a start.
"use strict";

const crypto = require("node:crypto");
const { existsSync, readFileSync, renameSync, writeFileSync } = require("node:fs");
const { syncBuiltinESMExports } = require("node:module");

const COUNTS = "/data/.openclaw/chowder-seed.json";
const HELPERS = /\/(?:secure-random|uuid)\b/;
// Beyond it the next calls differ with what has called them.
const CALLERS = 2;

const { randomInt, randomUUID } = crypto;
let seed;
let counts = {};

function placeOf(asked) {
  const { prepareStackTrace, stackTraceLimit } = Error;
  const holder = {};
  try {
    Error.stackTraceLimit = 8;
    Error.prepareStackTrace = (_, frames) => frames;
    Error.captureStackTrace(holder, asked);
    return holder.stack
      .filter((frame) => !HELPERS.test(frame.getFileName() ?? ""))
      .slice(0, CALLERS)
      .map((frame) => frame.getFunctionName() ?? "")
      .join("<");
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit });
  }
}

function nextBytes(asked) {
  const place = placeOf(asked);
  counts[place] = (counts[place] ?? 0) + 1;
  writeFileSync(`${COUNTS}.new`, JSON.stringify(counts), { mode: 0o600 });
  renameSync(`${COUNTS}.new`, COUNTS);
  return crypto.createHash("sha256").update(JSON.stringify([seed, place, counts[place]])).digest();
}

function seededUUID() {
  const bytes = nextBytes(seededUUID);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex", 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function seededInt(...args) {
  if (typeof args.at(-1) === "function") return randomInt(...args);
  const [min, max] = args.length > 1 ? args : [0, args[0]];
  return min + (nextBytes(seededInt).readUIntBE(0, 6) % (max - min));
}

/** Has ids follow from a seed, or again from nothing if it is undefined. */
exports.setSeed = function setSeed(next) {
  if (next === undefined && seed === undefined) return;
  seed = next;
  // Another home may have come into this sandbox.
  counts = existsSync(COUNTS) ? JSON.parse(readFileSync(COUNTS, "utf8")) : {};
  crypto.randomUUID = seed === undefined ? randomUUID : seededUUID;
  crypto.randomInt = seed === undefined ? randomInt : seededInt;
  if (seed === undefined) delete crypto.webcrypto.randomUUID;
  else crypto.webcrypto.randomUUID = seededUUID;
  syncBuiltinESMExports();
};
