// A provider for promptfoo: each sample is asked of a fork of an agent, on the server that
// CHOWDER_BASE_URL and CHOWDER_KEY name.
import { Client, textOf } from "chowder-local";

export default class Fork {
  constructor({ config }) {
    this.config = config;
    this.client = new Client();
  }

  id() {
    return `chowder-local:${this.config.agent}`;
  }

  async callApi(prompt) {
    const { agent, model } = this.config;
    const { id: original } = (await this.client.call("listInstances")).find(({ name }) => name === agent);
    const fork = await this.client.call("forkInstance", {
      path: { instance_id: original },
      body: { name: `sample of ${agent}` },
    });
    const path = { instance_id: fork.id };
    try {
      await this.client.waitUntilRunning(fork.id);
      const response = await this.client.respond(fork.id, prompt, { model });
      const { totals } = await this.client.call("getInstanceUsage", { path });
      const { turns } = await this.client.call("readTranscript", { path });
      return {
        output: textOf(response),
        cost: totals.cost_usd ?? undefined,
        tokenUsage: { prompt: totals.input_tokens, completion: totals.output_tokens },
        metadata: { tools: turns.filter(({ role }) => role === "tool_call").map(({ name }) => name) },
      };
    } finally {
      await this.client.call("deleteInstance", { path });
    }
  }
}
