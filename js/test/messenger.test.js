// A person who talks to a real agent in a channel, on a server that the environment names.
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
