// The rules by which the offline model answers, and the messages that no rule matched.

export class Replies {
  #client;
  #path;
  #names;
  #rules = [];
  #tools = [];

  constructor(client, instanceId) {
    this.#client = client;
    this.#path = instanceId && { instance_id: instanceId };
    this.#names = instanceId
      ? ["setInstanceReplies", "getInstanceReplies", "deleteInstanceReplies"]
      : ["setReplies", "getReplies", "deleteReplies"];
  }

  /** Adds a rule, which counts after those before it. `tools` are names that are not OpenClaw's. */
  async add(reply, match = {}, { tools = [], ...options } = {}) {
    const rules = [...this.#rules, { match, reply, ...options }];
    await this.set(rules, { tools: [...this.#tools, ...tools] });
  }

  /** Replaces all rules, and sets all counts to zero. */
  async set(rules, { unmatched = "fail", tools = [] } = {}) {
    await this.#call(0, { unmatched, tools, replies: rules });
    this.#rules = rules;
    this.#tools = tools;
  }

  /** Removes all rules, so that the offline model gives its usual answers. */
  async clear() {
    await this.#call(2);
    this.#rules = [];
    this.#tools = [];
  }

  /** Throws if a message of the test matched no rule. */
  async check() {
    if (this.#rules.length === 0) return;
    const { own } = await this.#call(1);
    const missed = own.script.unmatched === "fail" ? own.unmatched : [];
    if (missed.length > 0) {
      const lines = missed.map((each) => JSON.stringify(each)).join("\n");
      throw new Error(`No scripted reply matched:\n${lines}`);
    }
  }

  #call(number, body) {
    return this.#client.call(this.#names[number], { path: this.#path, body });
  }
}
