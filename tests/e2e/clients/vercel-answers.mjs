// The Vercel AI SDK: a whole answer, a streamed one, and a conversation that goes on.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import * as agent from "./agent.mjs";

export default async function run({ apiKey, baseURL }) {
  const model = createOpenAI({ apiKey, baseURL }).responses(agent.model);
  const maxRetries = 0;

  const first = await generateText({ model, maxRetries, prompt: "My name is Ada." });

  const stream = streamText({ model, maxRetries, prompt: "Tell me a story." });
  const deltas = [];
  for await (const delta of stream.textStream) deltas.push(delta);

  const { responseId: previousResponseId } = first.providerMetadata.openai;
  const byId = await generateText({
    model,
    maxRetries,
    prompt: "What is my name?",
    providerOptions: { openai: { previousResponseId } },
  });

  const said = { role: "user", content: "My name is Bob." };
  const again = { role: "user", content: "And now?" };
  const { response } = await generateText({ model, maxRetries, messages: [said] });
  const byHistory = await generateText({
    model,
    maxRetries,
    messages: [said, ...response.messages, again],
  });

  return {
    first: { text: first.text, model: first.response.modelId, usage: first.usage },
    streamed: { deltas, usage: await stream.usage, finish: await stream.finishReason },
    byId: byId.text,
    byHistory: byHistory.text,
  };
}
