// The server of a test run: one that the environment names or that runs, or one that is started.
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client } from "./client.js";
import { chowderLocal } from "./command.js";

/** A server, with its `baseUrl` and how to `stop` it: one that ran already is left as it is. */
export async function findServer() {
  const { CHOWDER_BASE_URL: baseUrl } = process.env;
  if (baseUrl) return { baseUrl, stop: async () => {} };
  const running = await runningServer();
  if (running) return { baseUrl: running, stop: async () => {} };
  return startServer();
}

async function startServer() {
  const folder = await mkdtemp(path.join(tmpdir(), "chowder-local-"));
  const place = ["--data-dir", folder];
  const port = String(await freePort());
  await call(["up", "--detach", "--offline", "--port", port, ...place]);
  const stop = async () => {
    await call(["reset", "--yes", ...place]);
    await rm(folder, { recursive: true, force: true });
  };
  return { baseUrl: `http://127.0.0.1:${port}/v1`, stop };
}

/** The address of a server that is ready; undefined if none runs. */
async function runningServer() {
  try {
    const baseUrl = JSON.parse(await call(["env", "--format", "json"])).CHOWDER_BASE_URL;
    const { ready } = await new Client({ baseUrl }).call("getReadiness");
    return ready ? baseUrl : undefined;
  } catch (failure) {
    if (failure.cause?.code === "ENOENT") throw failure;
    // It has never run, or does not run now.
    return undefined;
  }
}

const call = (words) =>
  chowderLocal(words, {
    failed: "No server for the tests",
    absent:
      "There is no server, and no chowder-local to start one. Install it, or name a server by CHOWDER_BASE_URL.",
  });

function freePort() {
  return new Promise((found, failed) => {
    const server = createServer().once("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });
}
