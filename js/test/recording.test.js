// A test that is recorded and replayed; the environment says what is said, and which it is.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { agents } from "chowder-local/test";

const chowder = agents({ before, after });

test("a greeting", chowder.test(async () => {
  await chowder.recording("recordings/greeting");
  const agent = await chowder.instance();
  assert.ok(await agent.say(`ask your model: ${process.env.SAID}`));
}));
