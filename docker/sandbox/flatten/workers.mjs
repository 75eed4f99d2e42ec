// Makes few files of each worker that a gateway starts over and over: what a thread does not use is
// left out, of up to 900 modules. The one that searches memories held 100 MB, and a thread that has
// ended is started anew by the next message. What a worker loads only for some tasks stays a file of
// its own.
//
// A module whose exports a worker does not use is left out with whatever else it does when it is
// loaded. Looked at for OpenClaw 2026.9.6: those enter themselves in registries that are left out, too.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import { unfit } from "./unfit.mjs";

const dist = path.resolve(process.argv[2]);
const workers = [
  "config/sessions/disk-budget.worker.js",
  "config/sessions/session-accessor.sqlite-archive.worker.js",
  "config/sessions/session-transcript.worker.js",
  "extensions/memory-core/memory-index.worker.js",
  "extensions/memory-core/memory-search.worker.js",
  "infra/sqlite-store.worker.js",
];
// Node is started for it, four or five times in a boot. It is one file already, to which its packages
// are added: a start takes half as long then.
const programs = ["infra/sqlite-readonly-location.worker.js"];
const onlyImports = /^import "(\.[^"]+)";\nexport \{\};\s*$/;

// What parts of these workers load only for some tasks, or when something has failed.
const late = [
  "legacy-config-issues",
  "openclaw-state-worker-store",
  "session-accessor.sqlite-reclamation",
  "session-canonical-validation",
  "session-cold-storage-worker",
  "session-history-archive-pruning",
  "session-transcript-read-worker-runtime",
  "session-transcript-worker-runtime",
  "sqlite-snapshot-staging-owner",
  "subagent-announce-result",
  "subsystem",
  "temp-artifact-cleanup",
];
// To write the configuration and to load plugins is no worker's task, and would bring all of
// OpenClaw along: the way there stays as it was.
const outside = ["io.write", "runtime"];

/** A file's name without what tells its content. */
const nameOf = (file) => path.basename(file).replace(/-[\w-]{8}\.mjs$/, "");

/** For the bundle of a worker. */
function unused(worker) {
  return {
    name: "leave out what is not used",
    setup(bundler) {
      bundler.onResolve({ filter: /^\./ }, ({ kind, path: wanted, resolveDir, importer }) => {
        if (kind === "entry-point") return undefined;
        const file = path.resolve(resolveDir, wanted);
        // Much of what is loaded later is so by what is left out; esbuild would look at all of it.
        return kind !== "dynamic-import" || importer === worker || late.includes(nameOf(file))
          ? { path: file, sideEffects: false }
          : { path: `./${path.relative(dist, file)}`, external: true };
      });
    },
  };
}

/** Resolves once a thread has loaded the file, which by itself only waits for what it is to do. */
function loaded(file) {
  const script = `import(${JSON.stringify(file)}).then(() => process.exit(0));`;
  return new Promise((done, failed) => {
    const thread = new Worker(script, { eval: true });
    thread.once("error", failed);
    thread.once("exit", (code) => (code === 0 ? done() : failed(new Error(`exit code ${code}`))));
  });
}

const common = {
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node24",
  keepNames: true,
  legalComments: "none",
  metafile: true,
  logLevel: "error",
};

async function flattenProgram(program) {
  const file = path.join(dist, program);
  const former = readFileSync(file);
  const { metafile } = await build({
    ...common,
    entryPoints: [file],
    outfile: file,
    allowOverwrite: true,
    minifySyntax: true,
    minifyWhitespace: true,
    // Of packages that are no ES modules.
    banner: {
      js: 'import{createRequire as requireOf}from"node:module";const require=requireOf(import.meta.url);',
    },
  });
  try {
    await loaded(file);
  } catch (error) {
    writeFileSync(file, former);
    throw error;
  }
  console.log(`${program}: ${Object.keys(metafile.inputs).length} -> 1 file`);
}

async function flattenWorker(worker) {
  const file = path.join(dist, worker);
  const [, imported] = readFileSync(file, "utf8").match(onlyImports) ?? [];
  const entry = imported === undefined ? file : path.resolve(path.dirname(file), imported);
  const name = `flat-${path.basename(worker, ".js")}`;
  const { metafile, outputFiles } = await build({
    ...common,
    entryPoints: { [name]: entry },
    // Beside what it is made of, because some of that looks from its own address for other files.
    outdir: dist,
    outExtension: { ".js": ".mjs" },
    chunkNames: `${name}-[hash]`,
    splitting: true,
    write: false,
    packages: "external",
    plugins: [unused(entry)],
  });
  const outputs = Object.values(metafile.outputs);
  const left = outputs
    .flatMap(({ imports }) => imports)
    .filter(({ kind, external, path: file }) => external && kind === "dynamic-import" && file.startsWith("./"))
    .filter(({ path: file }) => !outside.includes(nameOf(file)));
  // What is loaded from elsewhere comes with a second copy of what is in here.
  if (left.length > 0) throw new Error(`it loads ${left.map((one) => one.path)} later`);
  for (const { path: place, contents } of outputFiles) {
    mkdirSync(path.dirname(place), { recursive: true });
    writeFileSync(place, contents);
  }
  const flat = path.join(dist, `${name}.mjs`);
  try {
    await loaded(flat);
  } catch (error) {
    for (const { path: place } of outputFiles) rmSync(place);
    throw error;
  }
  writeFileSync(file, `import "${path.relative(path.dirname(file), flat)}";\nexport {};\n`);
  console.log(`${worker}: ${Object.keys(metafile.inputs).length} -> ${outputs.length} files`);
}

const jobs = [
  ...programs.map((program) => [program, flattenProgram]),
  ...workers.map((worker) => [worker, flattenWorker]),
];
for (const [file, flatten] of jobs) {
  try {
    await flatten(file);
  } catch (error) {
    unfit("flat workers", `${file}: ${error.message}`);
  }
}
