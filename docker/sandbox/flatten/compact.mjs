// Takes comments and indentation out of OpenClaw's ES modules, and escapes what is not ASCII. V8 keeps
// the text of every module in each thread that loads it, with two bytes a character if a single one
// does not fit into one: they were 70 MB of the main thread's 190.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { transform } from "esbuild";
import { unfit } from "./unfit.mjs";

const modules = process.argv[2];
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
const isModule = (text) => /^\s*(import|export)\b/m.test(text);

const heapSize = (text) => text.length * (/[^\x00-\xff]/.test(text) ? 2 : 1);

function* scriptsIn(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const place = path.join(folder, entry.name);
    if (entry.isDirectory()) yield* scriptsIn(place);
    else if (entry.isFile() && /\.m?js$/.test(entry.name)) yield place;
  }
}

const scripts = scriptsIn(modules);
let [before, after] = [0, 0];
const failed = [];

async function work() {
  for (const script of scripts) {
    const text = readFileSync(script, "utf8");
    if (text.length < LEAST_LENGTH || !isModule(text)) continue;
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
