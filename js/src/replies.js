// The rules by which the offline model answers, and the messages that no rule matched.

export class Replies {
  #client;
  #path;
  #names;
  #rules = [];
  #tools = [];
  #before = [];

  constructor(client, instanceId) {
    this.#client = client;
    this.#path = instanceId && { instance_id: instanceId };
    this.#names = instanceId
      ? ["setInstanceReplies", "getInstanceReplies", "deleteInstanceReplies"]
      : ["setReplies", "getReplies", "deleteReplies"];
  }

  /** Adds a rule, which counts after those before it. `tools` are names that are not OpenClaw's. */
  async add(reply, match = {}, { tools = [], ...options } = {}) {
    // The server counts a new script from zero.
    const before = await this.#unmatched();
    const rules = [...this.#rules, { match, reply, ...options }];
    await this.set(rules, { tools: [...this.#tools, ...tools] });
    this.#before = before;
  }

  /** Replaces all rules, and sets all counts to zero. */
  async set(rules, { unmatched = "fail", tools = [] } = {}) {
    await this.#call(0, { unmatched, tools, replies: rules });
    this.#rules = rules;
    this.#tools = tools;
    this.#before = [];
  }

  /** Removes all rules, so that the offline model gives its usual answers. */
  async clear() {
    await this.#call(2);
    this.#rules = [];
    this.#tools = [];
    this.#before = [];
  }

  /** Throws if a message of the test matched no rule. */
  async check() {
    const missed = await this.#unmatched();
    if (missed.length === 0) return;
    const rules = this.#rules.map((rule, number) => `replies[${number}]: ${JSON.stringify(rule)}`);
    throw new Error(
      `No scripted reply matched: ${missed.map(described).join("\n")}\nThe rules are:\n${rules.join("\n")}`,
    );
  }

  async #unmatched() {
    if (this.#rules.length === 0) return [];
    const { own } = await this.#call(1);
    return own.script.unmatched === "fail" ? [...this.#before, ...own.unmatched] : [];
  }

  #call(number, body) {
    return this.#client.call(this.#names[number], { path: this.#path, body });
  }
}

function described({ text, turn, session, model, tool }) {
  const after = tool ? `, after the result of ${tool}` : "";
  return `${JSON.stringify(text)} (turn ${turn}, session ${session ?? "main"}, model ${model}${after})`;
}
