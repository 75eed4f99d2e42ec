// Makes few files of the hundreds that some of OpenClaw's dependencies consist of. A gateway loads
// them anew in each of its dozen worker threads, and every module costs a thread time and memory:
// they were half of the 28,000 modules loaded up to the end of a first turn.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { unfit } from "./unfit.mjs";

const modules = process.argv[2];

// What OpenClaw imports where a package lets every file of its own be imported; "*": all exports.
const packages = {
  "@openclaw/fs-safe": "*",
  execa: "*",
  openai: ["index.mjs", "resources/responses/ws.mjs"],
  semver: ["index.js"],
  tslog: "*",
  typebox: "*",
  zod: "*",
};

function target(exported) {
  if (typeof exported !== "object" || exported === null) return exported;
  const condition = Object.keys(exported).find((name) => /^(node|import|default)$/.test(name));
  return target(exported[condition]);
}

function entriesOf(root, wanted) {
  if (wanted !== "*") return wanted.map((file) => path.join(root, file));
  const { exports } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  const named = Object.keys(exports).every((name) => name.startsWith("."));
  const files = (named ? Object.values(exports) : [exports]).map(target);
  // What a pattern exports (Zod's translations) stays as it is.
  const scripts = files.filter((file) => /^[^*]+\.m?js$/.test(file ?? ""));
  return [...new Set(scripts.map((file) => path.join(root, file)))].filter((file) => existsSync(file));
}

/** What a package offers, as another process sees it; no module is loaded twice in one. */
function offered(entries) {
  const script = `
    const told = {};
    for (const file of ${JSON.stringify(entries)}) {
      for (const [name, value] of Object.entries(await import(file))) {
        const about = typeof value === "function" ? value.name + "/" + value.length : "";
        told[file + " " + name] = typeof value + " " + about;
      }
    }
    console.log(JSON.stringify(told));
    process.exit();`;
  const node = [process.execPath, ["--input-type=module", "--eval", script]];
  return JSON.parse(execFileSync(...node, { encoding: "utf8", maxBuffer: 1 << 26 }));
}

async function bundle(root, entries) {
  const common = {
    entryPoints: entries,
    bundle: true,
    platform: "node",
    keepNames: true,
    target: "node24",
    packages: "external",
    legalComments: "none",
    allowOverwrite: true,
    write: false,
    outdir: root,
    outbase: root,
    metafile: true,
  };
  if (entries[0].endsWith(".mjs") || readFileSync(entries[0], "utf8").includes("export ")) {
    // Shared parts become files of their own, so that no class and no registry exists twice. They
    // stay in the first entry's folder: some look from their own address for what is beside them.
    const beside = path.relative(root, path.dirname(entries[0]));
    const extension = path.extname(entries[0]);
    return build({
      ...common,
      format: "esm",
      splitting: true,
      outExtension: { ".js": extension },
      chunkNames: path.join(beside, "flat-[hash]"),
    });
  }
  // Node finds what a CommonJS module exports by reading it, so that it has to be written down.
  const seen = Object.keys(await import(entries[0]));
  const exported = seen.filter((key) => key !== "default" && key !== "module.exports");
  const footer = { js: `0 && (module.exports = { ${exported.join(", ")} });` };
  return build({ ...common, format: "cjs", footer });
}

function write(file, contents) {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, contents);
}

async function flatten(name, wanted) {
  const root = realpathSync(path.join(modules, name));
  const entries = entriesOf(root, wanted);
  const before = offered(entries);
  const { metafile, outputFiles } = await bundle(root, entries);
  const places = outputFiles.map((file) => file.path);
  const former = places.map((file) => (existsSync(file) ? readFileSync(file) : undefined));
  try {
    for (const { path: file, contents } of outputFiles) write(file, contents);
    const after = offered(entries);
    const differs = Object.keys({ ...before, ...after }).filter((key) => before[key] !== after[key]);
    if (differs.length > 0) {
      const words = differs.map((key) => `${key}: ${before[key]} -> ${after[key]}`);
      throw new Error(`it does not offer what it did before: ${words.join("; ")}`);
    }
  } catch (error) {
    places.forEach((file, at) => (former[at] ? writeFileSync(file, former[at]) : rmSync(file)));
    throw error;
  }
  const { inputs, outputs } = metafile;
  console.log(`${name}: ${Object.keys(inputs).length} -> ${Object.keys(outputs).length} files`);
}

for (const [name, wanted] of Object.entries(packages)) {
  try {
    await flatten(name, wanted);
  } catch (error) {
    unfit("flat packages", `${name}: ${error.message}`);
  }
}
