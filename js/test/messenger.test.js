// Real agents, on a server that the environment names: a person talks to one in a channel, and another
// one is waited for and ended.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ChowderError, agents } from "chowder-local/test";

const chowder = agents({ before, after });

test("a person is approved and answered in a channel, which is disconnected after the test", async () => {
  const agent = await chowder.common();
  await chowder.test(async () => {
    await chowder.replies.add("Hello, Ada.", { text: "Good morning" });
    await chowder.replies.add("Hello, Bob.", { text: "Good night" });
    const telegram = await agent.messenger("telegram");
    const ada = telegram.person("Ada");
    const { answer } = await ada.say("Good morning");
    const [, code] = answer.match(/approve telegram (\w+)/);
    await telegram.approve(code);
    assert.equal((await ada.say("Good morning")).answer, "Hello, Ada.");
    const { message } = await telegram.person("Bob").approve().say("Good night", { waitMs: 0 });
    const { person } = await telegram.waitFor("Hello, Bob.", { after: message.id });
    assert.equal(person, "Bob");
    const said = await telegram.group("Team", "Bob").say("@agent_bot Good night");
    assert.equal(said.answers[0].group, "Team");
    const people = (await telegram.messages()).filter(({ author }) => author === "person");
    assert.deepEqual(people.map(({ text }) => text).slice(0, 2), ["Good morning", "Good morning"]);
    await assert.rejects(telegram.waitFor("nothing", { timeoutMs: 10 }), ChowderError);
  })();
  const path = { instance_id: agent.id, channel: "telegram" };
  assert.deepEqual(await chowder.client.call("listChannelMessages", { path }), []);
});

test("an agent is waited for, looked at and ended, and a session is reset", chowder.test(async () => {
  const agent = await chowder.common();
  const session = chowder.session();
  await chowder.replies.add([{ call: "exec", arguments: { command: "sleep 600" } }, { text: "Awake." }], { text: "nap" });
  await chowder.replies.add({ template: "Turn {{ turn }}." }, { text: "there" });
  const nap = assert.rejects(agent.say("Take a nap", { session }), { status: 409 });
  let turns = [];
  while (turns[0]?.state !== "running_tools") ({ turns } = await agent.activity());
  await assert.rejects(agent.waitIdle({ timeoutMs: 10 }), /is not idle after 0\.01 s/);
  assert.deepEqual(await agent.cancel(turns[0].trace_id), [turns[0].trace_id]);
  await nap;
  await agent.waitIdle();
  await agent.resetSession(session);
  assert.equal(await agent.say("Are you there?", { session }), "Turn 1.");
}));
