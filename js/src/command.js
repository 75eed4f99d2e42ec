// The command line, which starts servers and builds their image.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { ChowderError } from "./client.js";

const run = promisify(execFile);
const { CHOWDER_COMMAND: command = "chowder-local" } = process.env;

/**
 * What a command prints. Throws if it fails, with `failed` and its words, or if there is no
 * chowder-local, with `absent`.
 */
export async function chowderLocal(words, { failed, absent, env = {} }) {
  try {
    return (await run(command, words, { env: { ...process.env, ...env } })).stdout;
  } catch (cause) {
    const message = cause.code === "ENOENT" ? absent : `${failed}: ${cause.stderr}`;
    throw new ChowderError(message, 0, undefined, { cause });
  }
}
