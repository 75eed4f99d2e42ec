// Agents for tests, with node:test, vitest or jest.
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ChowderError, Client, textOf } from "./client.js";
import { chowderLocal } from "./command.js";
import { isRecording, openRecording, pathOf } from "./recording.js";
import { Replies } from "./replies.js";
import { findServer } from "./server.js";
import { Plan, howManyAtOnce, linesOf, newSeed, runTrials } from "./trials.js";
import { wildcards } from "./wildcards.js";

export { Client, ChowderError, DEFAULT_MODEL, textOf } from "./client.js";

const PROVIDERS = ["anthropic", "openai", "gemini"];
const WAIT_MS = 60_000;
const DECISION_POLL_MS = 50;
/** Of one call, which may then be repeated. */
const LONGEST_WAIT_S = 25;
const MAX_CALLS = 20;
/** What OpenClaw's log has instead of the failure of a model call, which the report shows itself. */
const LOGGED_FAILURES = ["relay-failure-", "provider rejected the request schema"];
const MAX_LINES = 60;
const MAX_SESSIONS = 3;
const MAX_TURNS = 20;
const MAX_TRACES = 1_000;
const SHOWN_FAILURES = 3;
const OWN_FRAMES = new URL(".", import.meta.url).href;

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
  #endings = [];
  #recording;

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
    // Recordings need real models, with the keys of the environment.
    const env = isRecording() ? process.env : {};
    const keys = PROVIDERS.map((name) => [name, env[`${name.toUpperCase()}_API_KEY`] ?? "offline"]);
    await this.client.call("updateOrganization", { body: { model_api_keys: Object.fromEntries(keys) } });
    await this.client.call("setOrganizationSettings", { body: { reuses_sandboxes: true } });
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
    await this.#recording?.begin(instance);
    return instance;
  }

  /** A copy of an instance for this test alone. */
  async fork(instance) {
    const fork = await instance.fork();
    this.atEnd(() => fork.isThere && fork.delete());
    return fork;
  }

  /** A snapshot of an instance, which is removed after the test. */
  async snapshot(instance, name) {
    const taken = await instance.snapshot(name);
    this.atEnd(() => this.client.call("deleteSnapshot", { path: { snapshot_id: taken.id } }));
    return taken;
  }

  /**
   * A scheduled job of an instance, which is deleted after the test. Without a schedule it is switched
   * off, for `run` alone.
   */
  async job(instance, { name = "test", schedule, ...members }) {
    const planned = schedule ? { schedule } : { schedule: { kind: "every", every_s: 3600 }, is_enabled: false };
    const path = { instance_id: instance.id };
    const { id } = await this.client.call("createJob", { path, body: { name, ...planned, ...members } });
    const job = new TestJob(this.client, instance.id, id);
    this.atEnd(() => instance.isThere && job.delete());
    return job;
  }

  /** Sets a fault; all are removed after the test. */
  async faults(kind, options = {}) {
    this.atEnd(() => this.client.call("deleteFaults"));
    return this.client.call("createFault", { body: { kind, ...options } });
  }

  /**
   * Limits what an instance, or without one all of the organization, may take: `usd`, `tokens` or
   * `model_calls`. The budget is removed after the test.
   */
  async budget({ instance, per = "total", ...limits }) {
    const ofInstance = instance ? "Instance" : "";
    const options = instance ? { path: { instance_id: instance.id } } : {};
    this.atEnd(() => (!instance || instance.isThere) && this.client.call(`delete${ofInstance}Budget`, options));
    return this.client.call(`set${ofInstance}Budget`, { ...options, body: { per, ...limits } });
  }

  /**
   * Holds the model calls of an instance until the test's end, all or those that match; `wait` gives
   * the longest held, to `resume` it, or to `answer` in the model's place.
   */
  async hold(instance, { once = false, ...match } = {}) {
    const path = { instance_id: instance.id };
    const held = (waitS = 0) =>
      this.client.call("listHeldCalls", { query: { instance_id: instance.id, wait_s: waitS } });
    const resume = (id, body = {}) => this.client.call("resumeCall", { path: { model_call_id: id }, body });
    this.atEnd(async () => {
      if (!instance.isThere) return;
      await this.client.call("deleteBreakpoint", { path });
      for (const { id } of await held()) await resume(id);
    });
    await this.client.call("setBreakpoint", { path, body: { match, once } });
    const wait = async ({ timeoutMs = WAIT_MS } = {}) => {
      const until = Date.now() + timeoutMs;
      for (let left; (left = until - Date.now()) > 0; ) {
        const [first] = await held(Math.min(left / 1000, LONGEST_WAIT_S));
        if (!first) continue;
        const { id, request } = await this.client.call("getModelCall", { path: { model_call_id: first.id } });
        return {
          id,
          request,
          resume: (other) => resume(id, other && { request: other }),
          answer: (reply) => resume(id, { reply }),
        };
      }
      throw new ChowderError(`No model call was held within ${timeoutMs / 1000} s.`);
    };
    return { wait };
  }

  /**
   * Rules about the commands of an instance, which asks before each until the test's end: the first
   * that matches decides, and a command that none matches runs. `decided` lists what was decided.
   */
  async approvals(instance) {
    const path = { instance_id: instance.id };
    const rules = [];
    const decided = [];
    let isOver = false;
    const { ask } = await this.client.call("getApprovalPolicy", { path });
    await this.client.call("setApprovalPolicy", { path, body: { ask: "always" } });
    const decide = async () => {
      while (!isOver && instance.isThere) {
        for (const { id, command } of await this.client.call("listApprovals", { path })) {
          const decision = rules.find(({ pattern }) => pattern.test(command))?.decision ?? "allow_once";
          // Before the agent goes on, or a test could look too early.
          decided.push({ command, decision });
          try {
            await this.client.call("decideApproval", { path: { ...path, approval_id: id }, body: { decision } });
          } catch (problem) {
            decided.pop();
            // Its turn has ended meanwhile.
            if (problem.status !== 404) throw problem;
          }
        }
        await delay(DECISION_POLL_MS);
      }
    };
    // A test that goes on learns of a failure at its end.
    const deciding = decide().catch((problem) => problem);
    this.atEnd(async () => {
      isOver = true;
      const problem = await deciding;
      if (problem) throw problem;
      if (instance.isThere) await this.client.call("setApprovalPolicy", { path, body: { ask } });
    });
    const add = (decision) => (command = "*") => {
      rules.push({ pattern: wildcards(command), decision });
    };
    return { allow: add("allow_once"), deny: add("deny"), decided };
  }

  /** What a budget says that has refused a model call since then, if one has. */
  async #exceeded(since, agents = this.#all) {
    const calls = [...agents].map(({ id }) => ["getInstanceBudget", { path: { instance_id: id } }]);
    for (const [id, options] of [["getBudget", {}], ...calls]) {
      // Without a budget it is a 404.
      const budget = await this.client.call(id, options).catch(() => undefined);
      if (budget?.refused_at && new Date(budget.refused_at) >= since) {
        const { totals } = await this.client.call("getUsage");
        const cause = new Error(`${budget.message} Cost so far: ${totals.cost_usd?.toFixed(4) ?? "unknown"} USD.`);
        return Object.assign(cause, { isOfAll: id === "getBudget" });
      }
    }
    return undefined;
  }

  /** Makes what a seed file declares for `default`: its instances by name, deleted after the test. */
  async seed(file) {
    const folder = await mkdtemp(path.join(tmpdir(), "chowder-local-"));
    const named = { CHOWDER_DATA_DIR: folder, CHOWDER_BASE_URL: this.baseUrl, CHOWDER_KEY: this.key };
    const made = {};
    try {
      const printed = await chowderLocal(["seed", pathOf(file), "--output", "json"], {
        failed: "The seed file is not carried out",
        absent: "There is no chowder-local to read the seed file. Install it, or name it by CHOWDER_COMMAND.",
        env: named,
      });
      const [own, ...others] = JSON.parse(printed).organizations;
      for (const { key } of others) await new Client({ baseUrl: this.baseUrl, key }).call("resetOrganization");
      if (others.length > 0 || own.name !== "default") {
        throw new ChowderError("A test has one organization: call it default in the seed file.");
      }
      for (const { name, id } of own.instances) {
        made[name] = [...this.#all].find((each) => each.id === id) ?? (await this.adopt(id));
        this.atEnd(() => made[name].isThere && made[name].delete());
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    return made;
  }

  /** Answers the test's model calls from a recording, or makes it if CHOWDER_TEST_RECORD is `true`. */
  async recording(folder) {
    const recording = await openRecording(folder);
    for (const each of this.#all) await recording.begin(each);
    this.#recording = recording;
    this.atEnd(() => {
      this.#recording = undefined;
      return recording.end();
    });
  }

  /** A test that fails if a message matched no scripted reply, and that reports its agents. */
  test(body) {
    return async (...context) => {
      const since = new Date();
      // What was set up outside of tests stays until the organization goes.
      this.#endings = [];
      try {
        await body(...context.slice(0, body.length));
        await this.#check();
        await this.#recording?.finish();
      } catch (failure) {
        // A budget that is spent, or a message that no rule matched, is the cause of what failed after it.
        const cause = (await this.#exceeded(since)) ?? (await this.#check().catch((problem) => problem));
        const isCause = cause && !(cause instanceof ChowderError);
        if (isCause) cause.stack = failure.stack;
        throw withReport(isCause ? cause : failure, await this.#report(since));
      } finally {
        await this.replies.clear();
        for (const end of this.#endings.reverse()) await end();
      }
    };
  }

  /**
   * A test whose body runs up to so often, each time with a fork of an agent (`isolation: "session"`: in
   * a new session), until it is certain whether the share `atLeast` passes.
   */
  trials({ agent, isolation = "fork", seed, ...options }, body) {
    const plan = new Plan(options);
    if (!["fork", "session"].includes(isolation)) {
      throw new RangeError(`isolation should be "fork" or "session", not ${JSON.stringify(isolation)}`);
    }
    return async () => {
      this.#endings = [];
      try {
        const origin = await (typeof agent === "function" ? agent() : agent);
        const own = Number(process.env.CHOWDER_TEST_SEED ?? seed ?? newSeed());
        const atOnce = howManyAtOnce(await this.client.call("getHealth"));
        const make = (trial) => this.#trial(origin, isolation === "fork", trial, body);
        const report = await runTrials(plan, own, atOnce, make);
        const lines = linesOf(report).join("\n");
        if (report.verdict === "passed") {
          console.log(lines);
          return;
        }
        const others = report.results.filter(({ outcome }) => outcome !== "passed");
        const [undecided] = others.filter(({ outcome }) => outcome === "undecided");
        const head = report.verdict === "undecided" ? [`undecided: ${undecided?.failure.message ?? ""}`] : [];
        const shown = others.slice(0, SHOWN_FAILURES).map((each) => {
          return `\n\nTrial ${each.number}, seed ${each.seed}: ${each.failure.stack}${each.report}`;
        });
        throw withReport(new Error([...head, lines].join("\n")), shown.join(""));
      } finally {
        await this.replies.clear();
        for (const end of this.#endings.reverse()) await end();
      }
    };
  }

  /** How a trial ends, and what it took. */
  async #trial(origin, isForking, { number, seed, random }, body) {
    const since = new Date();
    let agent = origin;
    try {
      if (isForking) agent = await origin.fork(`trial ${number} of ${origin.name}`.slice(0, 128));
    } catch (problem) {
      if (!(problem instanceof ChowderError)) throw problem;
      const failure = new Error(`its fork did not start: ${problem.message}`);
      const spent = { costUsd: 0, tokens: 0, modelCalls: 0, turns: 0 };
      return { outcome: "undecided", failure, report: "", spent };
    }
    const session = this.session();
    const ended = async (rest) => ({ ...rest, spent: await agent.spent(since, isForking ? undefined : session) });
    try {
      if (isForking) await agent.clock.set(undefined, { seed });
      try {
        await body({ agent, session, number, seed, random, replies: agent.replies });
        if (isForking) await agent.replies.check();
        return await ended({ outcome: "passed" });
      } catch (failure) {
        const report = `\n\n${await agent.report(since)}`;
        const refusal = await this.#exceeded(since, [agent]);
        if (refusal) {
          return await ended({ outcome: "undecided", failure: refusal, isLast: refusal.isOfAll, report });
        }
        return await ended({ outcome: "failed", failure, report });
      }
    } finally {
      if (isForking && agent.isThere) await agent.delete();
    }
  }

  has(instance) {
    return this.#all.has(instance);
  }

  forget(instance) {
    this.#all.delete(instance);
  }

  /** What a test has to undo, the latest first. */
  atEnd(end) {
    this.#endings.push(end);
  }

  async #check() {
    await this.replies.check();
    for (const each of this.#all) await each.replies.check();
  }

  async #report(since) {
    const incomplete = (problem) => `The report is incomplete: ${problem.message}`;
    const reports = [...this.#all, this.#recording].map((each) => each?.report(since).catch(incomplete));
    const parts = await Promise.all(reports);
    return parts.filter((part) => part).map((part) => `\n\n${part}`).join("");
  }
}

/** A failure with a report, and without this package's frames in its stack. */
function withReport(failure, report) {
  const frames = (failure.stack ?? "").split("\n").filter((line) => /^ {4}at /.test(line));
  const own = frames.filter((line) => !line.includes(OWN_FRAMES));
  failure.message += report;
  failure.stack = [`${failure.name}: ${failure.message}`, ...own].join("\n");
  return failure;
}

class TestJob {
  #path;

  constructor(client, instanceId, id) {
    this.client = client;
    this.id = id;
    this.#path = { instance_id: instanceId, job_id: id };
  }

  async run(timeoutMs = 120_000) {
    const known = (await this.runs()).length;
    await this.client.call("runJob", { path: this.#path });
    return this.waitForRun(known, timeoutMs);
  }

  async waitForRun(known = 0, timeoutMs = 120_000) {
    const endsMs = Date.now() + timeoutMs;
    for (;;) {
      const runs = await this.runs();
      if (runs.length > known) return runs[0];
      if (Date.now() > endsMs) throw new ChowderError(`No run of the job ${this.id} has ended within ${timeoutMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }

  runs() {
    return this.client.call("listJobRuns", { path: this.#path, query: { limit: 200 } });
  }

  async delete() {
    await this.client.call("deleteJob", { path: this.#path });
  }
}

/** A person who writes to the agent in a channel, in private or in a group. */
class Person {
  #messenger;
  #members;

  constructor(messenger, members) {
    this.#messenger = messenger;
    this.#members = members;
  }

  /** Says something, and waits until the agent has answered. */
  async say(text = "", { thread, image, waitMs = WAIT_MS } = {}) {
    const { client, path } = this.#messenger;
    const picture = image && Buffer.from(image).toString("base64");
    const body = { ...this.#members, text, thread, image: picture, wait_s: waitMs / 1000 };
    const { message, answers } = await client.call("sayInChannel", { path, body });
    return { message, answers, answer: answers.map((each) => each.text ?? "").join("\n") };
  }

  /** The same person, approved, so that the agent answers instead of giving a code. */
  approve() {
    return new Person(this.#messenger, { ...this.#members, approve: true });
  }
}

/** A channel of an instance that is connected to the local messenger. */
class Messenger {
  constructor(client, path) {
    this.client = client;
    this.path = path;
  }

  person(name) {
    return new Person(this, { from: name });
  }

  group(name, person = "Ada") {
    return new Person(this, { from: person, group: name });
  }

  async approve(code) {
    await this.client.call("approvePairing", { path: { ...this.path, code } });
  }

  messages(after = 0) {
    return this.client.call("listChannelMessages", { path: this.path, query: { after, limit: 1000 } });
  }

  async waitFor(text, { after = 0, timeoutMs = WAIT_MS } = {}) {
    const until = Date.now() + timeoutMs;
    for (let latest = after, left; (left = until - Date.now()) > 0; ) {
      const query = { after: latest, wait_s: Math.min(left / 1000, LONGEST_WAIT_S), limit: 1000 };
      for (const each of await this.client.call("listChannelMessages", { path: this.path, query })) {
        latest = each.id;
        if (each.author === "agent" && each.text?.includes(text)) return each;
      }
    }
    throw new ChowderError(`The agent said nothing with ${JSON.stringify(text)} in ${this.path.channel}.`);
  }
}

class TestInstance {
  #organization;
  /** When it last became ready; a test gets it once it runs. */
  #readyAt = new Date();
  /** The numbers of the entries that a `wait` has given last. */
  #after = {};

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

  /** Whether `delete` has not been called. */
  get isThere() {
    return this.#organization.has(this);
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

  activity() {
    return this.client.call("getActivity", { path: this.#path });
  }

  async waitIdle({ timeoutMs = WAIT_MS } = {}) {
    for (const until = Date.now() + timeoutMs; ; ) {
      const leftS = Math.max(0, (until - Date.now()) / 1000);
      const body = { timeout_s: Math.min(leftS, LONGEST_WAIT_S) };
      const found = await this.client.call("waitForInstance", { path: this.#path, body });
      if (found.status === "idle") return;
      if (leftS === 0) {
        throw new ChowderError(`${this.name} is not idle after ${timeoutMs / 1000} s: ${JSON.stringify(found)}`);
      }
    }
  }

  async cancel(itemId) {
    const path = { ...this.#path, ...(itemId && { item_id: itemId }) };
    return (await this.client.call(itemId ? "cancelActivityItem" : "cancelActivity", { path })).cancelled;
  }

  async resetSession(session = "main") {
    await this.client.call("resetSession", { path: { ...this.#path, session_id: session } });
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
    this.#readyAt = new Date();
  }

  /** The clock: the machine's until it is set. */
  get clock() {
    const call = async (id, body) => this.client.call(id, { path: this.#path, ...(body && { body }) });
    const iso = ({ at, until, ...rest }) => ({
      ...rest,
      ...(at !== undefined && { at: new Date(at).toISOString() }),
      ...(until !== undefined && { until: new Date(until).toISOString() }),
    });
    return {
      now: async () => new Date((await call("getClock")).now),
      set: (at, options = {}) => call("setClock", iso({ at, ...options })),
      reset: () => call("resetClock"),
      advance: async (by) => (await call("advanceClock", iso(typeof by === "string" ? { by } : by))).runs,
    };
  }

  /** What the agent says without being asked. */
  get messages() {
    return this.#list("listMessages", "messages");
  }

  /** The webhooks that the agent sends. */
  get inbox() {
    const call = (id) => this.client.call(id, { path: this.#path });
    return {
      ...this.#list("listInbox", "webhooks"),
      url: async () => (await call("listInbox")).url,
      clear: () => call("clearInbox"),
    };
  }

  /** Connects a channel to the local messenger; in a test, until its end. */
  async messenger(channel) {
    const path = { ...this.#path, channel };
    const body = { config: { offline: true } };
    this.#organization.atEnd(async () => {
      if (!this.isThere) return;
      await this.client.call("disconnectChannel", { path });
      await this.client.call("clearChannelMessages", { path });
    });
    await this.client.call("connectChannel", { path, body });
    return new Messenger(this.client, path);
  }

  #list(id, member) {
    const page = (query) => this.client.call(id, { path: this.#path, query });
    return {
      list: async () => {
        const all = [];
        for (let read = await page({}); read[member].length > 0; read = await page({ after: read.after })) {
          all.push(...read[member]);
        }
        return all;
      },
      wait: async ({ timeoutMs = WAIT_MS, ...members } = {}) => {
        const until = Date.now() + timeoutMs;
        const passed = [];
        for (;;) {
          const left = Math.max(0, until - Date.now());
          const after = this.#after[member] ?? 0;
          const found = (await page({ after, wait_s: Math.min(left / 1000, LONGEST_WAIT_S) }))[member];
          for (const each of found) {
            this.#after[member] = each.number;
            if (Object.entries(members).every(([name, value]) => each[name] === value)) return each;
            passed.push(each);
          }
          if (found.length === 0 && left === 0) {
            throw new ChowderError(`None came within ${timeoutMs / 1000} s. Others: ${JSON.stringify(passed)}`);
          }
        }
      },
    };
  }

  /** Sends a webhook: to `wake` with a `text`, to `agent` with a `message`, or to a mapping. */
  sendHook(hook, body) {
    return this.client.call("sendHook", { path: { ...this.#path, hook }, body });
  }

  snapshot(name) {
    return this.client.call("createSnapshot", { path: this.#path, body: { name } });
  }

  async restore({ id }) {
    await this.client.call("restoreInstance", { path: this.#path, body: { snapshot_id: id } });
    await this.client.waitUntilRunning(this.id);
    this.#readyAt = new Date();
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

  /** What its model calls took, or those of a session, and its turns since then. */
  async spent(since, session) {
    const { totals, rows } = await this.client.call("getInstanceUsage", { path: this.#path });
    const traces = await this.client.call("listTraces", { path: this.#path, query: { limit: MAX_TRACES } });
    const own = session === undefined ? [totals] : rows.filter((each) => each.session === session);
    const sum = (value) => own.reduce((total, each) => total + value(each), 0);
    return {
      costUsd: own.some(({ cost_usd: cost }) => cost === null) ? null : sum(({ cost_usd: cost }) => cost),
      tokens: sum((each) => each.input_tokens + each.output_tokens),
      modelCalls: sum(({ calls }) => calls),
      turns: traces.filter(({ at, session: name }) => new Date(at) >= since && [undefined, name].includes(session))
        .length,
    };
  }

  /** The former name of `modelCalls`, until 0.3. */
  exchanges() {
    process.emitWarning("exchanges() goes with 0.3: call modelCalls().", "DeprecationWarning");
    return this.modelCalls();
  }

  async modelCalls() {
    const calls = await this.client.call("listModelCalls", { path: this.#path });
    const whole = calls.map(({ id }) => this.client.call("getModelCall", { path: { model_call_id: id } }));
    return (await Promise.all(whole)).reverse();
  }

  async delete() {
    await this.client.call("deleteInstance", { path: this.#path });
    this.#organization.forget(this);
  }

  /** What a failed test that began at `since` has to tell of the agent; "" if nothing. */
  async report(since) {
    const all = await this.client.call("listModelCalls", { path: this.#path });
    const calls = all.filter(({ at }) => new Date(at) >= since);
    if (calls.length === 0 && this.createdAt < since) return "";
    const parts = [];
    const sessions = new Map(calls.map(({ session_key: key, session }) => [key, session]));
    for (const [key, session] of [...sessions].filter(([key]) => key).slice(0, MAX_SESSIONS)) {
      const query = { key, limit: MAX_TURNS };
      const { turns } = await this.client.call("readTranscript", { path: this.#path, query });
      const said = turns.filter(({ at }) => at === null || new Date(at) >= since);
      const lines = said.map(({ role, name, text }) => `${role}: ${name ? `${name} ${text ?? ""}` : text}`);
      if (lines.length > 0) parts.push(`--- transcript of ${this.name}, session ${session ?? key} ---`, ...lines);
    }
    parts.push(`--- model calls of ${this.name} ---`);
    if (calls.length === 0) parts.push("none");
    for (const call of calls.slice(0, MAX_CALLS).reverse()) {
      const { id, at, session, session_key: key, source, outcome, error } = call;
      const end = `${source}, ${outcome ?? "in progress"}${error ? `: ${error}` : ""}`;
      parts.push(`${id} ${at} ${session ?? key ?? "no session"}: ${end}`);
    }
    // Without the boot, and what warms a sandbox up.
    const from = new Date(Math.max(since, this.#readyAt)).toISOString();
    const query = { tail: MAX_LINES, since: from };
    const log = (await this.client.call("readLogs", { path: this.#path, query })).trimEnd();
    const lines = log.split("\n").filter((line) => !LOGGED_FAILURES.some((words) => line.includes(words)));
    parts.push(`--- log of ${this.name} ---`, lines.join("\n") || "none");
    return parts.join("\n");
  }
}
