// A user's test file for `node --test`, with a server of its own in a container.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { agents } from "chowder-local/test";
import { ChowderContainer } from "chowder-local/testcontainers";

const server = () => new ChowderContainer().withEnvironment({ CHOWDER_WARM_POOL_SIZE: "0" }).start();
const chowder = agents({ before, after, server });

test("the desk knows the weather", chowder.test(async () => {
  const desk = await chowder.instance("desk");
  await chowder.replies.add("It is sunny.", { text: "weather" });
  assert.equal(await desk.say("How is the weather?"), "It is sunny.");
}));
