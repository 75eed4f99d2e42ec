// Agents that are brought into a state, on a server that the environment names.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { agents } from "chowder-local/test";

const chowder = agents({ before, after });

test("a fork, a snapshot, a seed and faults are there for one test", async () => {
  const agent = await chowder.common();
  await chowder.test(async () => {
    await agent.writeFile("workspace/prices.md", "tea 3");
    const before = await chowder.snapshot(agent);
    await agent.writeFile("workspace/prices.md", "tea 4");
    const fork = await chowder.fork(agent);
    await agent.restore(before);
    assert.equal(await agent.readFile("workspace/prices.md"), "tea 3");
    assert.equal(await fork.readFile("workspace/prices.md"), "tea 4");
    const { desk } = await chowder.seed(new URL("seed.yaml", import.meta.url));
    assert.equal(await desk.readFile("workspace/SOUL.md"), "Be short.");
    await chowder.faults("message", { times: 2, status: 429, retry_after_s: 2 });
    await assert.rejects(agent.say("Hi"), { status: 429 });
  })();
  assert.deepEqual(await chowder.client.call("listSnapshots"), []);
  assert.deepEqual(await chowder.client.call("listFaults"), []);
  assert.deepEqual((await chowder.client.call("listInstances")).map(({ id }) => id), [agent.id]);
});

test("a fork and a snapshot keep what was, and a file what was written", chowder.test(async () => {
  const agent = await chowder.instance("original");
  await agent.writeFile("workspace/prices.md", "tea 3");
  const before = await agent.snapshot();
  await chowder.client.upload(agent.id, "workspace/prices.md", "tea 4");
  const fork = await agent.fork();
  await agent.restore(before);
  assert.equal(await agent.readFile("workspace/prices.md"), "tea 3");
  assert.equal(new TextDecoder().decode(await chowder.client.download(fork.id, "workspace/prices.md")), "tea 4");
  await fork.delete();
  await agent.stop();
  await agent.start();
  await agent.delete();
}));

test("an agent's clock is set, and moved on to tomorrow", chowder.test(async () => {
  const agent = await chowder.instance();
  await agent.clock.set("2030-01-01T09:00:00Z", { frozen: true });
  assert.deepEqual(await agent.clock.advance("25h"), []);
  assert.equal((await agent.clock.now()).toISOString(), "2030-01-02T10:00:00.000Z");
  assert.equal((await agent.clock.reset()).is_frozen, false);
}));

test("a budget ends turns for one test, which it is the headline of", async () => {
  const agent = await chowder.common();
  const body = chowder.test(async () => {
    await chowder.budget({ instance: agent, model_calls: 1 });
    await agent.say("ask your model: one");
    await agent.say("ask your model: two");
  });
  await assert.rejects(body, /^Error: The agent's budget of 1 model call is spent: .* Cost so far: 0\.0000 USD\./);
  await chowder.test(() => agent.say("ask your model: three"))();
});

test("rules decide about an agent's commands", chowder.test(async () => {
  const agent = await chowder.common();
  const approvals = await chowder.approvals(agent);
  approvals.allow("rm ./build/*");
  approvals.deny("rm *");
  assert.equal(await agent.say("run: rm ./build/a"), "ran rm ./build/a");
  assert.equal(await agent.say("run: rm x"), "denied rm x");
  assert.equal(await agent.say("run: ls"), "ran ls");
  assert.deepEqual(approvals.decided.map(({ decision }) => decision), ["allow_once", "deny", "allow_once"]);
}));

test("a held call is looked at and answered", chowder.test(async () => {
  const agent = await chowder.common();
  const { wait } = await chowder.hold(agent, { text: "weather" });
  const answer = agent.say("ask your model: the weather?");
  const call = await wait();
  assert.match(JSON.stringify(call.request), /the weather\?/);
  await call.answer("Sunny.");
  assert.equal(await answer, "Sunny.");
}));
