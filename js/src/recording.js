// Replays and makes the recordings of single tests.
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ChowderError } from "./client.js";

const COMMAND = "CHOWDER_TEST_RECORD=true, and a model key, in the environment of the tests";
const END_TIMEOUT_MS = 10_000;
const POLL_INTERVAL_MS = 50;
const LISTED_CALLS = 1_000;

/** Whether tests are to be recorded again. */
export const isRecording = () => process.env.CHOWDER_TEST_RECORD === "true";

/** A path, which is relative to the working directory, or that of a `file:` URL. */
export const pathOf = (file) => (file instanceof URL ? fileURLToPath(file) : path.resolve(file));

/** A recording that is to answer the model calls of a test, or to be made of them. */
export const openRecording = (folder) =>
  isRecording() ? new NewRecording(pathOf(folder)) : Replay.open(pathOf(folder));

class Replay {
  #entries;
  #instances = [];

  constructor(entries) {
    this.#entries = entries;
  }

  static async open(folder) {
    const names = (await files(folder)).sort();
    if (names.length === 0) {
      throw new ChowderError(`There is no recording in ${folder}. Make one with ${COMMAND}.`);
    }
    const read = async (name) => [name, JSON.parse(await readFile(path.join(folder, name), "utf8"))];
    return new Replay(Object.fromEntries(await Promise.all(names.map(read))));
  }

  async begin(instance) {
    const place = { instance_id: instance.id };
    await instance.client.call("setRecording", { path: place, body: { entries: this.#entries } });
    this.#instances.push(instance);
  }

  async finish() {}

  /** What the report of a failed test says of it. */
  async report(since) {
    const calls = await Promise.all(this.#instances.map((each) => listed(each)));
    const isReplayed = calls.flat().some(
      ({ source, error, at }) => source === "recording" && !error && new Date(at) >= since,
    );
    return `--- recording ---\n${isReplayed ? "It was replayed. Record again" : "Record"} with ${COMMAND}.`;
  }

  async end() {
    for (const { client, id, isThere } of this.#instances) {
      if (isThere) await client.call("deleteRecording", { path: { instance_id: id } });
    }
  }
}

class NewRecording {
  #folder;
  #begun = [];

  constructor(folder) {
    this.#folder = folder;
  }

  async begin(instance) {
    const [last] = await listed(instance, 1);
    this.#begun.push([instance, last?.id]);
  }

  /** Replaces the recording in the folder, once the calls have ended. Throws if no real model answered. */
  async finish() {
    const begun = this.#begun.filter(([{ isThere }]) => isThere);
    await untilEnded(begun.map(([instance]) => instance));
    const unchanged = `The folder ${this.#folder} is unchanged.`;
    const calls = [];
    for (const [instance, last] of begun) {
      const all = (await listed(instance)).filter(({ path: place }) => !place.toLowerCase().includes("embed"));
      const end = all.findIndex(({ id }) => id === last);
      calls.push(...(end === -1 ? all : all.slice(0, end)));
    }
    const others = new Set(calls.filter(({ source }) => source !== "provider").map(({ provider }) => provider));
    if (others.size > 0) {
      const names = [...others].sort();
      const keys = names.map((name) => `${name.toUpperCase()}_API_KEY`).join(", ");
      throw new ChowderError(
        `No recording is made: no real model of ${names.join(", ")} has answered. ` +
          `Set ${keys} in the environment of the tests. ${unchanged}`,
      );
    }
    if (!calls.some(({ outcome }) => outcome === "answered")) {
      throw new ChowderError(`No recording is made: no model call was answered. ${unchanged}`);
    }
    const entries = [];
    for (const [{ client, id }, last] of begun) {
      const options = { path: { instance_id: id }, query: { after: last } };
      entries.push(...Object.entries((await client.call("getRecording", options)).entries));
    }
    await mkdir(this.#folder, { recursive: true });
    for (const name of await files(this.#folder)) await rm(path.join(this.#folder, name));
    for (const [index, [name, entry]] of entries.entries()) {
      const numbered = name.replace(/^\d+/, String(index + 1).padStart(4, "0"));
      const text = JSON.stringify(entry, (_, value) => value ?? undefined, 2);
      await writeFile(path.join(this.#folder, numbered), `${text}\n`);
    }
  }

  async report() {
    return "";
  }

  async end() {}
}

async function files(folder) {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith(".json"));
  } catch (failure) {
    if (failure.code !== "ENOENT") throw failure;
    return [];
  }
}

const listed = ({ client, id }, limit = LISTED_CALLS) =>
  client.call("listModelCalls", { path: { instance_id: id }, query: { limit } });

/** Waits for running model calls: an agent may answer before its model's answer has ended. */
async function untilEnded(instances) {
  const deadline = performance.now() + END_TIMEOUT_MS;
  const isRunning = async (instance) => (await listed(instance)).some(({ outcome }) => outcome === null);
  while ((await Promise.all(instances.map(isRunning))).includes(true)) {
    if (performance.now() > deadline) {
      throw new ChowderError("A model call has not ended: the recording would be incomplete. Run the test again.");
    }
    await new Promise((done) => setTimeout(done, POLL_INTERVAL_MS));
  }
}
