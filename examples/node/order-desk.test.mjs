// A user's test file for `node --test`, against the server that `chowder-local env` names.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import OpenAI from "openai";

const { CHOWDER_BASE_URL: url, CHOWDER_KEY: key } = process.env;
const local = url.replace(/v1$/, "local");
const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
const call = async (method, address, body) => {
  const answer = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${address}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
};
let id, desk;

before(async () => {
  id = (await call("POST", `${url}/instances`, { name: "order-desk" })).id;
  const status = async () => (await call("GET", `${url}/instances/${id}/status`)).status;
  while ((await status()) === "provisioning") await setTimeout(200);
  assert.equal(await status(), "running");
  desk = new OpenAI({ baseURL: `${url}/instances/${id}`, apiKey: key });
});
after(() => call("DELETE", `${url}/instances/${id}`));

test("an order is looked up by the agent's own tool", async () => {
  const command = "echo 7 is on its way > orders.txt; cat orders.txt";
  const reply = [{ call: "exec", arguments: { command } }, { template: "Order {{ result }}." }];
  const script = { unmatched: "fail", replies: [{ match: { text: "order 7" }, reply }] };
  await call("PUT", `${local}/instances/${id}/replies`, script);
  const answer = await desk.responses.create({ model: "gpt-4o", input: "Where is order 7?" });
  assert.equal(answer.output_text, "Order 7 is on its way.");
});
