import type { Answer, Client, Input, Instance, MessageOptions, components } from "./client.js";

export { Client, ChowderError, DEFAULT_MODEL, textOf } from "./client.js";

type Schemas = components["schemas"];
type FaultCreation = Schemas["FaultCreation"];
type Hook = (body: () => Promise<void>, limit?: any) => unknown;

/** A server, by the URL of its API. */
export interface Server {
  readonly baseUrl: string;
  stop(): Promise<unknown>;
}

/** The rules by which the offline model answers one instance, or all of the organization's. */
export interface Replies {
  /** Adds a rule, which counts after those before it. `tools` are its names that are not OpenClaw's. */
  add(reply: unknown, match?: Record<string, unknown>, options?: { times?: number; tools?: readonly string[] }): Promise<void>;
  /** Replaces all rules, and sets all counts to zero. */
  set(rules: readonly Record<string, unknown>[], options?: { unmatched?: "fail" | "offline"; tools?: readonly string[] }): Promise<void>;
  /** Removes all rules, so that the offline model gives its usual answers. */
  clear(): Promise<void>;
  /** Throws if a message of the test matched no rule. */
  check(): Promise<void>;
}

/** A model call that is held. */
export interface HeldCall {
  readonly id: string;
  readonly request: any;
  /** Lets it go on, as it is or with another body. */
  resume(request?: Record<string, unknown>): Promise<unknown>;
  /** Answers in the model's place: a text, or an action of a reply script, such as an `error`. */
  answer(reply: string | Record<string, unknown>): Promise<unknown>;
}

/** Rules about the commands of an instance. */
export interface Approvals {
  /** Lets commands run that match, such as `git *`. */
  allow(command?: string): void;
  /** Denies commands that match, such as `rm *`. */
  deny(command?: string): void;
  /** What was decided, in its order. */
  readonly decided: { command: string; decision: "allow_once" | "deny" }[];
}

/** A list that grows while the agent works. */
export interface EntryList<Entry> {
  /** All that are kept, the oldest first. */
  list(): Promise<Entry[]>;
  /** The next one that no `wait` has given, with these members, such as `kind: "job"`. */
  wait(options?: Partial<Entry> & { timeoutMs?: number }): Promise<Entry>;
}

/** A person who writes to the agent in a channel, in private or in a group. */
export interface Person {
  /** Says something, and waits until the agent has answered, or for a minute; `answer` is the text of all answers. */
  say(
    text?: string,
    options?: { thread?: string; image?: Uint8Array; waitMs?: number },
  ): Promise<Schemas["ChannelAnswersView"] & { answer: string }>;
  /** The same person, approved, so that the agent answers instead of giving a code. */
  approve(): Person;
}

/** A channel of an instance that is connected to the local messenger. */
export interface Messenger {
  /** A person who writes to the agent in private; who need not exist before. */
  person(name: string): Person;
  /** A person, by default Ada, who writes in a group. */
  group(name: string, person?: string): Person;
  /** Approves the person who got the pairing code. */
  approve(code: string): Promise<void>;
  /** What people and the agent have said, oldest first. */
  messages(after?: number): Promise<Schemas["ChannelMessage"][]>;
  /** The first message of the agent that contains a text. */
  waitFor(text: string, options?: { after?: number; timeoutMs?: number }): Promise<Schemas["ChannelMessage"]>;
}

/** A running instance; `baseUrl` and `key` give an SDK its main session. */
export interface TestInstance {
  readonly client: Client;
  readonly id: string;
  readonly name: string;
  readonly key: string;
  readonly baseUrl: string;
  readonly createdAt: Date;
  /** Whether `delete` has not been called. */
  readonly isThere: boolean;
  readonly replies: Replies;
  /** The base URL for an SDK to use a named session. */
  sessionUrl(session: string): string;
  respond(input: Input, options?: MessageOptions): Promise<Answer>;
  /** Sends a message and gives the text of the answer. */
  say(text: string, options?: MessageOptions): Promise<string>;
  /** What the agent is doing: `status` is `idle` or `busy`, with `turns` and `tasks`. */
  activity(): Promise<Schemas["ActivityView"]>;
  /** Waits until the agent is idle: no turn, no task, no report of a sub-agent still to come. */
  waitIdle(options?: { timeoutMs?: number }): Promise<void>;
  /** Ends all that the agent is doing, or one turn or task; gives their ids. */
  cancel(itemId?: string): Promise<string[]>;
  /** Makes the agent forget a session, by default the main one, without a message to it. */
  resetSession(session?: string): Promise<void>;
  /** A copy with the same conversations, files and configuration, once it runs. */
  fork(name?: string): Promise<TestInstance>;
  stop(): Promise<void>;
  /** Starts the instance again, and waits until it runs. */
  start(): Promise<void>;
  /** The clock of the agent: the machine's until it is set. */
  readonly clock: {
    now(): Promise<Date>;
    /** Sets the clock; what is left out stays. */
    set(
      at?: Date | string,
      options?: { frozen?: boolean; seed?: number | null },
    ): Promise<Schemas["ClockView"]>;
    /** Gives the agent the machine's time, and random ids. */
    reset(): Promise<Schemas["ClockView"]>;
    /** Moves on by a duration such as `25h`, until a time, or to the next job; gives the runs. */
    advance(
      by: string | { until: Date | string; limit?: number } | { to: "next_job" },
    ): Promise<Schemas["AdvancedRunView"][]>;
  };
  /** What the agent says without being asked. */
  readonly messages: EntryList<Schemas["SentMessageView"]>;
  /** The webhooks that the agent sends. */
  readonly inbox: EntryList<Schemas["WebhookView"]> & {
    /** The address for the agent; anything may follow. */
    url(): Promise<string>;
    /** Removes the webhooks. */
    clear(): Promise<void>;
  };
  /** Connects a channel to the local messenger; in a test, until its end. */
  messenger(channel: string): Promise<Messenger>;
  /** Sends a webhook: to `wake` with a `text`, to `agent` with a `message`, or to a mapping. */
  sendHook(hook: string, body: unknown): Promise<Schemas["HookView"]>;
  /** Takes a snapshot, for `restore`. */
  snapshot(name?: string): Promise<Schemas["SnapshotView"]>;
  /** Takes the instance back to a snapshot, and waits until it runs. */
  restore(snapshot: { id: string }): Promise<void>;
  readFile(path: string): Promise<string>;
  writeFile(path: string, content: string): Promise<void>;
  /** The last 100 messages of a session, the oldest first. */
  transcript(session?: string): Promise<Schemas["TranscriptView"]["turns"]>;
  /** The latest 100 model calls with requests and answers, the oldest first. */
  modelCalls(): Promise<Schemas["ModelCallDetailsView"][]>;
  /** @deprecated The former name of `modelCalls`, until 0.3. */
  exchanges(): Promise<Schemas["ModelCallDetailsView"][]>;
  /** What its model calls took, or those of a session, and its turns since then. */
  spent(
    since: Date,
    session?: string,
  ): Promise<{ costUsd: number | null; tokens: number; modelCalls: number; turns: number }>;
  delete(): Promise<void>;
  /** What a failed test that began at `since` has to tell of the agent; "" if nothing. */
  report(since: Date): Promise<string>;
}

/** A scheduled job of an instance. */
export interface TestJob {
  readonly client: Client;
  readonly id: string;
  /** Runs the job now, past OpenClaw's scheduler, and gives the run once it has ended. */
  run(timeoutMs?: number): Promise<Schemas["RunView"]>;
  /** The latest run, once there are more than `known`. */
  waitForRun(known?: number, timeoutMs?: number): Promise<Schemas["RunView"]>;
  /** The latest runs that have ended, latest first. */
  runs(): Promise<Schemas["RunView"][]>;
  delete(): Promise<void>;
}

/** The organization of a test file, with offline models. */
export interface Organization {
  readonly baseUrl: string;
  readonly key: string;
  readonly client: Client;
  readonly replies: Replies;
  /** A new instance that runs; the caller may delete it, or it goes with the organization. */
  instance(name?: string, options?: Partial<Schemas["InstanceCreation"]>): Promise<TestInstance>;
  /** One instance for all tests of the file; `session()` gives each a conversation of its own. */
  common(): Promise<TestInstance>;
  /** A name that no other session has. */
  session(): string;
  /** An instance that was made by the API, once it runs. */
  adopt(id: Instance["id"]): Promise<TestInstance>;
  /** A copy of an instance for this test alone, once it runs. */
  fork(instance: TestInstance): Promise<TestInstance>;
  /** A snapshot of an instance, for `restore`; it is removed after the test. */
  snapshot(instance: TestInstance, name?: string): Promise<Schemas["SnapshotView"]>;
  /**
   * A scheduled job of an instance, which is deleted after the test. Without a schedule it is switched
   * off, for `run` alone.
   */
  job(
    instance: TestInstance,
    job: Partial<Schemas["JobCreation"]> & Pick<Schemas["JobCreation"], "message">,
  ): Promise<TestJob>;
  /** Makes calls fail, wait or break off, as `createFault` does; all faults are removed after the test. */
  faults(kind: FaultCreation["kind"], options?: Partial<Omit<FaultCreation, "kind">>): Promise<Schemas["FaultView"]>;
  /**
   * Holds the model calls of an instance until the test's end, all or those that match. `wait` gives
   * the longest held with its `request`, to `resume` it, or to `answer` in the model's place. Do not
   * await a message whose calls are held before.
   */
  hold(
    instance: TestInstance,
    match?: Partial<NonNullable<Schemas["BreakpointSetting"]["match"]>> & { once?: boolean },
  ): Promise<{ wait(options?: { timeoutMs?: number }): Promise<HeldCall> }>;
  /**
   * Rules about the commands of an instance, which asks before each until the test's end: the first
   * that matches decides, and a command that none matches runs. `*` and `?` are wildcards.
   */
  approvals(instance: TestInstance): Promise<Approvals>;
  /**
   * Limits what an instance, or without one all of the organization, may take; the budget is removed
   * after the test. A test whose agent it refuses fails with what the budget says, and the cost so far.
   */
  budget(
    options: Partial<Schemas["BudgetSetting"]> & { instance?: TestInstance },
  ): Promise<Schemas["BudgetView"]>;
  /**
   * Makes what a seed file declares for the organization `default`: its instances by name, which are
   * deleted after the test. A path is relative to the working directory. It needs the chowder-local on
   * the PATH, or in CHOWDER_COMMAND.
   */
  seed(file: string | URL): Promise<Record<string, TestInstance>>;
  /**
   * Answers the model calls of the test's instances from a folder with a recording. If the environment
   * has CHOWDER_TEST_RECORD=true and model keys, the test records the folder again, unless it fails.
   */
  recording(folder: string | URL): Promise<void>;
  /**
   * A test whose body runs up to so often, each time with a fork of an agent, until it is certain whether
   * the share `atLeast` (1) passes. With `isolation: "session"` it runs in a new session of the agent.
   * CHOWDER_TEST_SEED repeats the trials of a run, which has printed its seed.
   */
  trials(
    options: {
      agent: TestInstance | (() => TestInstance | Promise<TestInstance>);
      trials: number;
      atLeast?: number;
      confidence?: number;
      isolation?: "fork" | "session";
      seed?: number;
    },
    body: (trial: Trial) => Promise<void>,
  ): () => Promise<void>;
  /** A test that fails if a message matched no scripted reply, and that reports its agents. */
  test<Context extends unknown[]>(
    body: (...context: Context) => Promise<void>,
  ): (...context: Context) => Promise<void>;
}

/** What a trial has of its own. */
export interface Trial {
  /** A fork of the test's agent, or with `isolation: "session"` that agent. */
  readonly agent: TestInstance;
  /** The name of a new session. */
  readonly session: string;
  /** From 1. */
  readonly number: number;
  /** The same in a run with the same seed. */
  readonly seed: number;
  /** Random numbers from 0 to 1, which follow from the seed. */
  random(): number;
  readonly replies: Replies;
}

/**
 * An organization for a test file, which is there from the file's first to its last test. The hooks
 * are those of the test runner: `before` and `after` of node:test, `beforeAll` and `afterAll` of
 * vitest and jest. `server` starts or finds a server, which is stopped after the last test; by default
 * it is the one of CHOWDER_BASE_URL, the one that runs, or a new one.
 */
export function agents(hooks: {
  before: Hook;
  after: Hook;
  timeoutMs?: number;
  server?: () => Promise<Server>;
}): Organization;
