// Finds the parts of OpenClaw, which name each other by the part's own hash, without asking the file
// system where they are and what they are: a boot loads 3,000, and takes a twelfth less time so.
const { registerHooks } = require("node:module");

const dist = "file:///opt/openclaw/node_modules/openclaw/dist/";
const chunk = /^\.\.?\/[\w./-]+-[\w-]{8}\.mjs$/;

registerHooks({
  resolve(specifier, context, nextResolve) {
    const { parentURL } = context;
    if (!chunk.test(specifier) || !parentURL?.startsWith(dist)) return nextResolve(specifier, context);
    return { url: new URL(specifier, parentURL).href, format: "module", shortCircuit: true };
  },
});
