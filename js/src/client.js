// The client: every call of the API by its operation's id, and what takes more than one call.
import { OPERATIONS } from "./operations.js";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
const PAUSE_GROWTH = 1.5;

/** An error that the server answered with, or why it did not answer (`status` 0). */
export class ChowderError extends Error {
  constructor(message, status = 0, body = undefined, { code, ...options } = {}) {
    super(message, options);
    this.name = "ChowderError";
    this.status = status;
    this.body = body;
    this.code = code;
  }
}

export class Client {
  #root;
  #key;

  constructor({ baseUrl = process.env.CHOWDER_BASE_URL, key = process.env.CHOWDER_KEY } = {}) {
    if (!baseUrl) {
      throw new ChowderError('No server is named. Run: eval "$(chowder-local env)"');
    }
    this.#root = baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#key = key;
  }

  /** The URL for clients, with /v1. */
  get baseUrl() {
    return `${this.#root}/v1`;
  }

  /** The answer of an operation: JSON, or else text; undefined if it has none. */
  async call(id, options = {}) {
    const response = await this.fetch(id, options);
    if (response.status === 204) return undefined;
    const isJson = response.headers.get("content-type")?.includes("json");
    return isJson ? response.json() : response.text();
  }

  /** The response of an operation, whose body is still to be read. Throws if it is refused. */
  async fetch(id, { path = {}, query = {}, body, headers = {}, signal } = {}) {
    if (!OPERATIONS[id]) throw new ChowderError(`There is no operation ${id}.`);
    const [method, template] = OPERATIONS[id];
    const place = template.replace(/\{(\w+)\}/g, (_, name) => {
      if (path[name] === undefined) throw new ChowderError(`${id} requires the path's ${name}.`);
      return encodeURIComponent(path[name]);
    });
    const url = new URL(this.#root + place);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    const isRaw = body === undefined || body instanceof FormData || body instanceof Blob;
    const sent = {
      ...(this.#key && { authorization: `Bearer ${this.#key}` }),
      ...(!isRaw && { "content-type": "application/json" }),
      ...headers,
    };
    let response;
    try {
      response = await fetch(url, {
        method,
        headers: sent,
        body: isRaw ? body : JSON.stringify(body),
        signal,
      });
    } catch (cause) {
      if (signal?.aborted) throw cause;
      throw new ChowderError(
        `No server answers at ${this.#root}. Start one with: chowder-local up --detach`,
        0,
        undefined,
        { cause },
      );
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** Polls until an instance runs, and gives it. Throws if it does not, or not in time. */
  async waitUntilRunning(instanceId, { timeoutMs = 300_000, onStatus } = {}) {
    const path = { instance_id: instanceId };
    const deadline = performance.now() + timeoutMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * PAUSE_GROWTH, LONGEST_PAUSE_MS)) {
      const { status } = await this.call("getInstanceStatus", { path });
      onStatus?.(status);
      if (status === "running") return this.call("getInstance", { path });
      if (status !== "provisioning") {
        const { error_message: reason } = await this.call("getInstance", { path });
        throw new ChowderError(reason ?? `The instance is ${status}.`);
      }
      if (performance.now() > deadline) {
        throw new ChowderError(`The instance is still ${status} after ${timeoutMs / 1000} s.`);
      }
      await new Promise((done) => setTimeout(done, pauseMs));
    }
  }

  /** Sends a message and gives the answer, an OpenAI Responses resource. */
  async respond(instanceId, input, { session, model = DEFAULT_MODEL, signal } = {}) {
    const [id, path] = messageTo(instanceId, session);
    return this.call(id, { path, body: { model, input }, signal });
  }

  /** Sends a message and yields the Responses events of the answer as they come. */
  async *stream(instanceId, input, { session, model = DEFAULT_MODEL, signal } = {}) {
    const [id, path] = messageTo(instanceId, session);
    const body = { model, input, stream: true };
    const response = await this.fetch(id, { path, body, signal });
    for await (const data of eventsOf(response)) {
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
    throw new ChowderError("The answer broke off before its end.");
  }

  /** As `stream`, but only the pieces of the answer's text. */
  async *streamText(instanceId, input, options = {}) {
    for await (const event of this.stream(instanceId, input, options)) {
      if (event.type === "response.output_text.delta") yield event.delta;
      if (event.type === "response.failed" || event.type === "error") {
        const error = (event.response ?? event).error ?? event;
        throw new ChowderError(error.message ?? "The answer failed.", 0, undefined, { code: error.code });
      }
    }
  }

  /** The events of the organization's instances, or of one, as they come. */
  async *events({ instanceId, signal } = {}) {
    const [id, path] = instanceId ? ["streamInstanceEvents", { instance_id: instanceId }] : ["streamEvents", {}];
    const response = await this.fetch(id, { path, signal });
    for await (const data of eventsOf(response)) yield JSON.parse(data);
  }

  /** Creates or replaces a file with text or bytes. */
  async upload(instanceId, path, content) {
    const form = new FormData();
    form.set("path", path);
    form.set("file", content instanceof Blob ? content : new Blob([content]), path.split("/").at(-1));
    await this.call("uploadFile", { path: { instance_id: instanceId }, body: form });
  }

  /** The bytes of a file. */
  async download(instanceId, path) {
    const options = { path: { instance_id: instanceId }, query: { path } };
    const response = await this.fetch("downloadFile", options);
    return new Uint8Array(await response.arrayBuffer());
  }
}

/** A model that is known for every provider's offline model. */
export const DEFAULT_MODEL = "claude-sonnet-4-20250514";

/** The text of an answer. */
export function textOf(answer) {
  return answer.output
    .filter((item) => item.type === "message")
    .flatMap((item) => item.content)
    .filter((part) => part.type === "output_text")
    .map((part) => part.text)
    .join("");
}

function messageTo(instanceId, session) {
  const path = { instance_id: instanceId };
  if (session === undefined) return ["createResponse", path];
  return ["createSessionResponse", { ...path, session_id: session }];
}

async function refusal(response) {
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    // Something else than the server may have answered.
  }
  let detail = body?.detail ?? body?.error?.message ?? body?.error ?? (text.trim().slice(0, 500) || response.statusText);
  if (Array.isArray(detail)) {
    detail = detail.map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("; ");
  }
  if (typeof detail !== "string") detail = JSON.stringify(detail);
  const code = body?.error?.code ?? response.headers.get("x-error-code") ?? undefined;
  return new ChowderError(`${detail} (HTTP ${response.status})`, response.status, body ?? text, { code });
}

/** The data of each server-sent event. */
async function* eventsOf(response) {
  let rest = "";
  let data = [];
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    // What came before is not looked through again.
    const [first, ...others] = chunk.split("\n");
    const lines = [rest + first, ...others];
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ |\r$/g, ""));
      if (line !== "" && line !== "\r") continue;
      if (data.length > 0) yield data.join("\n");
      data = [];
    }
  }
}
