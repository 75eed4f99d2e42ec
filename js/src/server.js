// The server of a test run: one that the environment names or that runs, or one that is started.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { ChowderError, Client } from "./client.js";

const run = promisify(execFile);
const { CHOWDER_COMMAND: command = "chowder-local" } = process.env;

/** A server, with its `baseUrl` and how to `close` it: one that ran already is left as it is. */
export async function findServer() {
  const { CHOWDER_BASE_URL: baseUrl } = process.env;
  if (baseUrl) return { baseUrl, close: async () => {} };
  const running = await addressOf([]);
  if (running) return { baseUrl: running, close: async () => {} };
  return startServer();
}

async function startServer() {
  const folder = await mkdtemp(path.join(tmpdir(), "chowder-local-"));
  const place = ["--data-dir", folder];
  const port = String(await freePort());
  await call(["up", "--detach", "--offline", "--port", port, ...place]);
  const close = async () => {
    await call(["reset", "--yes", ...place]);
    await rm(folder, { recursive: true, force: true });
  };
  return { baseUrl: `http://127.0.0.1:${port}/v1`, close };
}

/** The address of a server that is ready; undefined if none runs. */
async function addressOf(place) {
  try {
    const { stdout } = await run(command, ["env", "--format", "json", ...place]);
    const baseUrl = JSON.parse(stdout).CHOWDER_BASE_URL;
    const { ready } = await new Client({ baseUrl }).call("getReadiness");
    return ready ? baseUrl : undefined;
  } catch (failure) {
    if (failure.code === "ENOENT") throw absent(failure);
    // It has never run, or does not run now.
    return undefined;
  }
}

async function call(words) {
  try {
    await run(command, words);
  } catch (cause) {
    if (cause.code === "ENOENT") throw absent(cause);
    throw new ChowderError(`No server for the tests: ${cause.stderr}`, 0, undefined, { cause });
  }
}

const absent = (cause) =>
  new ChowderError(
    "There is no server, and no chowder-local to start one. Install it, or name a server by CHOWDER_BASE_URL.",
    0,
    undefined,
    { cause },
  );

function freePort() {
  return new Promise((found, failed) => {
    const server = createServer().once("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });
}
