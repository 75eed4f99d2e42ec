// The test helpers with node:test, on a server that the environment names. An agent that is no
// OpenClaw asks its model only if a message says so.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ChowderError, agents } from "chowder-local/test";

const chowder = agents({ before, after });

test("an agent answers in sessions of its own, as a stream too", chowder.test(async () => {
  const agent = await chowder.common();
  const session = chowder.session();
  assert.match(await agent.say("Hi", { session }), /Turn 1\./);
  const pieces = [];
  for await (const piece of chowder.client.streamText(agent.id, "Hi", { session })) pieces.push(piece);
  assert.match(pieces.join(""), /Turn 2\./);
}));

test("replies are scripted, and an unmatched message fails the test with a report", async () => {
  const agent = await chowder.common();
  const session = chowder.session();
  await chowder.test(async () => {
    await chowder.replies.add("It is sunny.", { text: "weather" });
    assert.equal(await agent.say("ask your model: How is the weather?", { session }), "It is sunny.");
  })();
  const failing = chowder.test(async () => {
    await chowder.replies.add("It is sunny.", { text: "weather" });
    const said = await agent.say("ask your model: How deep is the sea?", { session }).catch(() => undefined);
    await chowder.replies.add("It is deep.", { text: "lake" });
    assert.equal(said, "It is deep.");
  });
  await assert.rejects(failing, ({ message, stack }) => {
    const [missed, heading, ...rules] = message.split("\n\n")[0].split("\n");
    const where = `turn 1, session ${session}, model claude-sonnet-4-20250514`;
    assert.equal(missed, `No scripted reply matched: "How deep is the sea?" (${where})`);
    assert.equal(heading, "The rules are:");
    assert.equal(rules.length, 2);
    assert.equal(rules[0], 'replies[0]: {"match":{"text":"weather"},"reply":"It is sunny."}');
    assert.match(message, /--- model calls of common ---/);
    assert.match(message, /--- log of common ---/);
    assert.ok(!message.includes("[gateway] listens"), "the log has no boot");
    assert.match(stack, /agents\.test\.js/);
    assert.doesNotMatch(stack, /src\/(test|client)\.js/);
    assert.ok(!message.includes(chowder.key));
    return true;
  });
});

test("a refusal has the server's words and its status", chowder.test(async () => {
  const path = { instance_id: "nobody" };
  await assert.rejects(chowder.client.call("getInstance", { path }), (refusal) => {
    assert.ok(refusal instanceof ChowderError);
    assert.deepEqual([refusal.status, refusal.code], [404, "instance_not_found"]);
    assert.match(refusal.message, /Instance not found/);
    return true;
  });
  await assert.rejects(chowder.client.call("createInstance", { body: {} }), /body\.name: .*\(HTTP 422\)/);
  await assert.rejects(chowder.client.call("getInstance"), /requires the path's instance_id/);
}));
