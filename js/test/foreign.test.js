// What agents write is read in a time that grows as it does. Needs no server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "chowder-local";
import { wildcards } from "../src/wildcards.js";

test("a pattern means what it says", () => {
  const matching = { "*": "any\nthing", "git *": "git log", "r?m": "r.m", "a*b*c": "a1b2b3c", "*1*1": "111", "": "" };
  for (const [pattern, text] of Object.entries(matching)) assert.match(text, wildcards(pattern));
  const others = { "git *": "a git log", "a.c": "abc", "a*b*c": "acb", "*b": "b\n", "a*a": "a", "r?m": "rm" };
  for (const [pattern, text] of Object.entries(others)) assert.doesNotMatch(text, wildcards(pattern));
});

test("a command cannot make a search long", () => {
  assert.doesNotMatch("a".repeat(10_000), wildcards("*a*a*a*a*a*b"));
});

test("a long event comes in many pieces", async (context) => {
  const piece = "x".repeat(4_096);
  const pieces = ["\r\ndata: 1\r", "\n\r\ndata: {\ndata:", '"type": "long", "text": "', ...Array(16_384).fill(piece)];
  const response = new Response(ReadableStream.from([...pieces, '"}\n\ndata: [DONE]\n\n'].map((each) => Buffer.from(each))));
  context.mock.method(globalThis, "fetch", async () => response);
  const events = [];
  for await (const each of new Client({ baseUrl: "http://x" }).stream("a", "Hi")) events.push(each);
  assert.equal(events[0], 1);
  assert.equal(events[1].text.length, 16_384 * piece.length);
});
