// Agents for tests, with node:test, vitest or jest.
import { randomUUID } from "node:crypto";
import { Client, textOf } from "./client.js";
import { Replies } from "./replies.js";
import { findServer } from "./server.js";

export { Client, ChowderError, DEFAULT_MODEL, textOf } from "./client.js";

const PROVIDERS = ["anthropic", "openai", "gemini"];
const MAX_CALLS = 20;
const MAX_LINES = 60;

/**
 * An organization for a test file, which is there from the file's first to its last test. The hooks
 * are those of the test runner: `before` and `after` of node:test, `beforeAll` and `afterAll` of
 * vitest and jest. `server` gives the server that it is of, by default the one of the run.
 */
export function agents({ before, after, timeoutMs = 600_000, server = findServer }) {
  const organization = new Organization(server);
  const { VITEST, JEST_WORKER_ID } = process.env;
  // node:test takes options, the others a number.
  const limit = VITEST || JEST_WORKER_ID ? timeoutMs : { timeout: timeoutMs };
  before(() => organization.open(), limit);
  after(() => organization.close(), limit);
  return organization;
}

class Organization {
  #findServer;
  #server;
  #common;
  #all = new Set();

  constructor(server) {
    this.#findServer = server;
  }

  async open() {
    this.#server = await this.#findServer();
    const { baseUrl } = this.#server;
    const { api_key: key } = await new Client({ baseUrl, key: "" }).call("signUp", { body: { name: "tests" } });
    this.key = key;
    this.baseUrl = baseUrl;
    this.client = new Client({ baseUrl, key });
    this.replies = new Replies(this.client);
    const offline = Object.fromEntries(PROVIDERS.map((name) => [name, "offline"]));
    await this.client.call("updateOrganization", { body: { model_api_keys: offline } });
    const { url } = await this.client.call("createPortal");
    const moved = await fetch(`${url}&tier=whale`, { method: "POST" });
    if (!moved.ok) throw new Error(`The tests' organization stays small: HTTP ${moved.status}`);
  }

  async close() {
    try {
      await this.client?.call("resetOrganization");
    } finally {
      await this.#server?.stop();
    }
  }

  /** A new instance that runs; the caller may delete it, or it goes with the organization. */
  async instance(name = "test", options = {}) {
    const { id } = await this.client.call("createInstance", { body: { name, ...options } });
    return this.adopt(id);
  }

  /** One instance for all tests of the file; `session()` gives each a conversation of its own. */
  common() {
    this.#common ??= this.instance("common");
    return this.#common;
  }

  /** A name that no other session has. */
  session() {
    return `test-${randomUUID().slice(0, 8)}`;
  }

  /** An instance that was made by the API, once it runs. */
  async adopt(id) {
    const resource = await this.client.waitUntilRunning(id);
    const instance = new TestInstance(this, resource);
    this.#all.add(instance);
    return instance;
  }

  /** A test that fails if a message matched no scripted reply, and that reports its agents. */
  test(body) {
    return async (...context) => {
      const since = new Date();
      try {
        await body(...context.slice(0, body.length));
        await this.replies.check();
        for (const each of this.#all) await each.replies.check();
      } catch (failure) {
        failure.message += await this.#report(since);
        throw failure;
      } finally {
        await this.replies.clear();
      }
    };
  }

  forget(instance) {
    this.#all.delete(instance);
  }

  async #report(since) {
    const parts = await Promise.all([...this.#all].map((each) => each.report(since)));
    return parts.filter((part) => part).map((part) => `\n\n${part}`).join("");
  }
}

class TestInstance {
  #organization;

  constructor(organization, { id, name, created_at: createdAt }) {
    this.#organization = organization;
    this.client = organization.client;
    this.key = organization.key;
    this.id = id;
    this.name = name;
    this.createdAt = new Date(createdAt);
    this.baseUrl = `${this.client.baseUrl}/instances/${id}`;
    this.replies = new Replies(this.client, id);
  }

  get #path() {
    return { instance_id: this.id };
  }

  sessionUrl(session) {
    return `${this.baseUrl}/session/${encodeURIComponent(session)}`;
  }

  respond(input, options) {
    return this.client.respond(this.id, input, options);
  }

  async say(text, options) {
    return textOf(await this.respond(text, options));
  }

  async fork(name = `${this.name} (fork)`) {
    const { id } = await this.client.call("forkInstance", { path: this.#path, body: { name } });
    return this.#organization.adopt(id);
  }

  async stop() {
    await this.client.call("stopInstance", { path: this.#path });
  }

  async start() {
    await this.client.call("startInstance", { path: this.#path });
    await this.client.waitUntilRunning(this.id);
  }

  snapshot(name) {
    return this.client.call("createSnapshot", { path: this.#path, body: { name } });
  }

  async restore({ id }) {
    await this.client.call("restoreInstance", { path: this.#path, body: { snapshot_id: id } });
    await this.client.waitUntilRunning(this.id);
  }

  async readFile(path) {
    return (await this.client.call("readFile", { path: this.#path, query: { path } })).content;
  }

  async writeFile(path, content) {
    await this.client.call("writeFile", { path: this.#path, body: { path, content } });
  }

  async transcript(session) {
    const path = { ...this.#path, ...(session !== undefined && { session_id: session }) };
    const id = session === undefined ? "readTranscript" : "readSessionTranscript";
    return (await this.client.call(id, { path })).turns;
  }

  async exchanges() {
    const calls = await this.client.call("listExchanges", { path: this.#path });
    const whole = calls.map(({ id }) => this.client.call("getExchange", { path: { exchange_id: id } }));
    return (await Promise.all(whole)).reverse();
  }

  async delete() {
    await this.client.call("deleteInstance", { path: this.#path });
    this.#organization.forget(this);
  }

  /** What a failed test that began at `since` has to tell of the agent; "" if nothing. */
  async report(since) {
    const all = await this.client.call("listExchanges", { path: this.#path });
    const calls = all.filter(({ at }) => new Date(at) >= since).slice(0, MAX_CALLS).reverse();
    if (calls.length === 0 && this.createdAt < since) return "";
    const parts = [];
    for (const key of new Set(calls.map((call) => call.session_key).filter((each) => each))) {
      const { turns } = await this.client.call("readTranscript", { path: this.#path, query: { key } });
      const lines = turns.map(({ role, text }) => `${role}: ${text}`);
      parts.push(`transcript of ${this.name}, ${key}:`, ...lines);
    }
    parts.push(`model calls of ${this.name}:`);
    for (const { id, source, outcome, error } of calls) {
      parts.push(`${id}: ${source}, ${outcome ?? "in progress"}${error ? `: ${error}` : ""}`);
    }
    const log = await this.client.call("readLogs", { path: this.#path, query: { tail: MAX_LINES } });
    parts.push(`log of ${this.name}:`, log.trimEnd());
    return parts.join("\n");
  }
}
