import type { components, operations } from "./openapi.js";

export type { components, operations, paths } from "./openapi.js";
export type Instance = components["schemas"]["InstanceView"];
export type Answer = components["schemas"]["ResponseView"];

type Id = keyof operations;
type In<O, Where extends string> = O extends { parameters: Record<Where, infer P> } ? P : never;
type Optional<O, Where extends string> = O extends { parameters: { [W in Where]?: infer P } } ? P : never;
type BodyOf<O> = O extends { requestBody: { content: infer C } }
  ? "application/json" extends keyof C ? C["application/json"] : FormData | Blob
  : never;
type ContentOf<R> = R extends { content: infer C }
  ? "application/json" extends keyof C ? C["application/json"] : string
  : undefined;
type Success<R> = R extends { 200: infer A } ? A : R extends { 201: infer A } ? A : undefined;

/** What an operation answers with. */
export type Result<I extends Id> = operations[I] extends { responses: infer R } ? ContentOf<Success<R>> : never;

/** The path, query and body of an operation. */
export type Options<I extends Id> = ([In<operations[I], "path">] extends [never] ? { path?: undefined } : { path: In<operations[I], "path"> }) & {
  query?: Optional<operations[I], "query">;
  headers?: Record<string, string>;
  signal?: AbortSignal;
} & ([BodyOf<operations[I]>] extends [never] ? { body?: undefined } : { body: BodyOf<operations[I]> });

type Argument<T> = Record<never, never> extends T ? [options?: T] : [options: T];

export interface MessageOptions {
  /** A conversation of its own; by default, the main one. */
  session?: string;
  model?: string;
  signal?: AbortSignal;
}

export type Input = string | readonly Record<string, unknown>[];

/** An event of a streamed answer, or of the server. */
export interface Event {
  type: string;
  [member: string]: any;
}

/** An error that the server answered with, or why it did not answer (`status` 0). */
export class ChowderError extends Error {
  readonly status: number;
  readonly body: unknown;
  /** The server's name for the error, such as `budget_exceeded`: docs/reference/errors.md has all. */
  readonly code: string | undefined;
}

/** A client of the API; by default, of the server that `chowder-local env` names. */
export class Client {
  constructor(options?: { baseUrl?: string; key?: string });
  /** The URL for clients, with /v1. */
  readonly baseUrl: string;
  /** The answer of an operation: JSON, or else text; undefined if it has none. */
  call<I extends Id>(id: I, ...options: Argument<Options<I>>): Promise<Result<I>>;
  /** The response of an operation, whose body is still to be read. */
  fetch<I extends Id>(id: I, ...options: Argument<Options<I>>): Promise<Response>;
  /** Polls until an instance runs, and gives it. */
  waitUntilRunning(
    instanceId: string,
    options?: { timeoutMs?: number; onStatus?: (status: string) => void },
  ): Promise<Instance>;
  /** Sends a message and gives the answer, an OpenAI Responses resource. */
  respond(instanceId: string, input: Input, options?: MessageOptions): Promise<Answer>;
  /** Sends a message and yields the Responses events of the answer as they come. */
  stream(instanceId: string, input: Input, options?: MessageOptions): AsyncGenerator<Event>;
  /** As `stream`, but only the pieces of the answer's text. */
  streamText(instanceId: string, input: Input, options?: MessageOptions): AsyncGenerator<string>;
  /** The events of the organization's instances, or of one, as they come. */
  events(options?: { instanceId?: string; signal?: AbortSignal }): AsyncGenerator<Event>;
  /** Creates or replaces a file with text or bytes. */
  upload(instanceId: string, path: string, content: string | Uint8Array | Blob): Promise<void>;
  /** The bytes of a file. */
  download(instanceId: string, path: string): Promise<Uint8Array>;
}

/** A model that is known for every provider's offline model. */
export const DEFAULT_MODEL: string;

/** The text of an answer. */
export function textOf(answer: Answer): string;
