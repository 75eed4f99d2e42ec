// Makes one file of WhatsApp's stand-in and of the parts of crabline that it uses, without those that
// would write all that is said to a file: its events go to the local messenger only.
import { build } from "esbuild";

const recorder = `
  export class ServerRecorderCommittedError extends Error {}
  export function createServerRecorder({ onEvent }) {
    return { record: onEvent, recordCommitted: onEvent, async close() {} };
  }`;

await build({
  entryPoints: ["../messengers/whatsapp.mjs"],
  outfile: process.argv[2],
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  legalComments: "eof",
  // What CommonJS parts require of Node itself.
  banner: {
    js: `import { createRequire } from "node:module";
const require = createRequire(import.meta.url);`,
  },
  plugins: [
    {
      name: "recorder",
      setup: ({ onLoad }) => onLoad({ filter: /\/servers\/recorder\.js$/ }, () => ({ contents: recorder })),
    },
  ],
});
