// Trials on forks of an agent, on a server that the environment names.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { agents } from "chowder-local/test";

const chowder = agents({ before, after });
let taught;

/** An agent that all tests have in common, and whose forks remember what it was told. */
async function prepared() {
  if (!taught) {
    taught = await chowder.instance("taught");
    await taught.say("My name is Ada.");
  }
  return taught;
}

test("a body runs on forks until enough trials have passed", async () => {
  const seen = [];
  await chowder.trials({ agent: prepared, trials: 5, atLeast: 0.8, seed: 7 }, async ({ agent, number, random }) => {
    seen[number] = random();
    assert.equal(await agent.say("Hi"), "Turn 2. First: My name is Ada.");
    assert.notEqual(number, 2);
  })();
  assert.ok(seen.length <= 6);
  assert.equal((await chowder.client.call("listInstances")).length, 1);
});

test("a body runs in new sessions of the same agent", chowder.trials(
  { agent: prepared, trials: 3, isolation: "session" },
  async ({ agent, session }) => {
    assert.equal(agent, taught);
    assert.equal(await agent.say("Hi", { session }), "Turn 1. First: Hi");
  },
));

test("trials that fail are reported with their seeds", async () => {
  const body = chowder.trials({ agent: prepared, trials: 10, atLeast: 0.9, seed: 5 }, async ({ agent, replies }) => {
    await replies.add("Sunny.", { text: "weather" });
    assert.equal(await agent.say("ask your model: the weather?"), "Rainy.");
  });
  await assert.rejects(body, ({ message }) => {
    assert.match(message, /^failed: 0 of 2 trials passed \(0; interval 0\.000 to /);
    assert.match(message, /\nSeed 5\.\n/);
    assert.match(message, /\nTrials that are failed: 1 \(seed \d+\), 2 \(seed \d+\)\./);
    assert.match(message, /Trial 1, seed \d+: AssertionError/);
    assert.match(message, /--- model calls of trial 1 of taught ---/);
    return true;
  });
});

test("trials that a budget ends are undecided", async () => {
  const body = chowder.trials({ agent: prepared, trials: 2 }, async ({ agent }) => {
    const path = { instance_id: agent.id };
    await chowder.client.call("setInstanceBudget", { path, body: { per: "total", model_calls: 1 } });
    await agent.say("ask your model: one");
    await agent.say("ask your model: two");
  });
  await assert.rejects(body, /^Error: undecided: The agent's budget of 1 model call is spent: /);
  assert.throws(() => chowder.trials({ agent: prepared, trials: 0 }, async () => {}), /trials should be 1 to 1000/);
});
