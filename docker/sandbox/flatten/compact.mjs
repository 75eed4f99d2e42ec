// Takes comments and indentation out of the ES modules of OpenClaw and its channels, and escapes what is
// not ASCII. V8 keeps the text of every module in each thread that loads it, with two bytes a character if
// a single one does not fit into one: they were 70 MB of the main thread's 190.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { transform } from "esbuild";
import { unfit } from "./unfit.mjs";

const folders = process.argv.slice(2);
const AT_ONCE = 8;
// Thousands of smaller ones are a fiftieth of all text.
const LEAST_LENGTH = 2000;
// Names and syntax stay, since messages and logs tell them. Line breaks keep stack traces useful.
const options = {
  minifyWhitespace: true,
  lineLimit: 160,
  charset: "ascii",
  target: "esnext",
  legalComments: "inline",
};

// CommonJS modules stay as they are: Node finds by reading what they export.
const isModule = (script, text) =>
  (script.endsWith(".mjs") || typeIn(path.dirname(script)) === "module") && /^\s*(import|export)\b/m.test(text);

const types = new Map();
function typeIn(folder) {
  if (!types.has(folder)) {
    const manifest = path.join(folder, "package.json");
    types.set(folder, existsSync(manifest) ? JSON.parse(readFileSync(manifest)).type : typeIn(path.dirname(folder)));
  }
  return types.get(folder);
}

const heapSize = (text) => text.length * (/[^\x00-\xff]/.test(text) ? 2 : 1);

function* scriptsIn(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const place = path.join(folder, entry.name);
    if (entry.isDirectory()) yield* scriptsIn(place);
    else if (entry.isFile() && /\.m?js$/.test(entry.name)) yield place;
  }
}

function* scriptsInAll() {
  // Equal files are one file with several names.
  const seen = new Set();
  for (const folder of folders)
    for (const script of scriptsIn(folder)) {
      const { ino } = statSync(script);
      if (!seen.has(ino)) yield script;
      seen.add(ino);
    }
}

const scripts = scriptsInAll();
let [before, after] = [0, 0];
const failed = [];

async function work() {
  for (const script of scripts) {
    const text = readFileSync(script, "utf8");
    if (text.length < LEAST_LENGTH || !isModule(script, text)) continue;
    let code;
    try {
      ({ code } = await transform(text, options));
    } catch {
      failed.push(script);
      continue;
    }
    writeFileSync(script, code);
    before += heapSize(text);
    after += heapSize(code);
  }
}

console.log("modules without comments and indentation: some 20 s");
await Promise.all(Array.from({ length: AT_ONCE }, work));
const inMb = (size) => Math.round(size / 1e6);
console.log(`modules without comments and indentation: ${inMb(before)} -> ${inMb(after)} MB`);
if (failed.length > 0) unfit("compact modules", `${failed.length} stay as they are, as ${failed[0]}`);
if (before === 0) unfit("compact modules", "there are none");
