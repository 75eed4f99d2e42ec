// Makes one file of each worker thread that a gateway starts over and over: what a thread does not
// use is left out, of up to 900 modules. The one that searches memories held 100 MB, and a thread
// that idled for a minute is started anew by the next message.
//
// A module whose exports a worker does not use is left out with whatever else it does when it is
// loaded. Looked at for OpenClaw 2026.9.6: those enter themselves in registries that are left out, too.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";

const dist = path.resolve(process.argv[2]);
const workers = [
  "config/sessions/disk-budget.worker.js",
  "extensions/memory-core/memory-index.worker.js",
  "extensions/memory-core/memory-search.worker.js",
  "infra/sqlite-store.worker.js",
];
const onlyImports = /^import "(\.[^"]+)";\nexport \{\};\s*$/;

const unused = {
  name: "leave out what is not used",
  setup(bundler) {
    bundler.onResolve({ filter: /^\./ }, ({ kind, path: wanted, resolveDir }) =>
      kind === "entry-point" ? undefined : { path: path.resolve(resolveDir, wanted), sideEffects: false },
    );
  },
};

/** Resolves once a thread has loaded the file, which by itself only waits for what it is to do. */
function loaded(file) {
  const script = `import(${JSON.stringify(file)}).then(() => process.exit(0));`;
  return new Promise((done, failed) => {
    const thread = new Worker(script, { eval: true });
    thread.once("error", failed);
    thread.once("exit", (code) => (code === 0 ? done() : failed(new Error(`exit code ${code}`))));
  });
}

for (const worker of workers) {
  const file = path.join(dist, worker);
  const [, imported] = readFileSync(file, "utf8").match(onlyImports) ?? [];
  // Beside what it is made of, because some of that looks from its own address for other files.
  const flat = path.join(dist, `flat-${path.basename(worker, ".js")}.mjs`);
  const { metafile } = await build({
    entryPoints: [imported === undefined ? file : path.resolve(path.dirname(file), imported)],
    outfile: flat,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node24",
    packages: "external",
    keepNames: true,
    legalComments: "none",
    metafile: true,
    logLevel: "error",
    plugins: [unused],
  });
  const [output] = Object.values(metafile.outputs);
  const late = output.imports.filter(({ kind }) => kind === "dynamic-import");
  // What is loaded later would come with a second copy of what is in here.
  if (late.length > 0) throw new Error(`${worker} loads ${late.map((one) => one.path)} later`);
  await loaded(flat);
  writeFileSync(file, `import "${path.relative(path.dirname(file), flat)}";\nexport {};\n`);
  const kept = Object.values(output.inputs).filter(({ bytesInOutput }) => bytesInOutput > 0);
  console.log(`${worker}: ${Object.keys(metafile.inputs).length} -> 1 file, of ${kept.length}`);
}
