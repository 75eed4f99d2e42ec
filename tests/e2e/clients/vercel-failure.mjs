// The Vercel AI SDK: what it makes of a refusal, of a whole answer and of a streamed one.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import * as agent from "./agent.mjs";

const { apiKey, baseURL } = agent;
const model = createOpenAI({ apiKey, baseURL }).responses(agent.model);
const asked = { model, maxRetries: 0, prompt: "Hello?" };
const failure = ({ name, statusCode, message, error }) => ({
  kind: name,
  status: statusCode,
  words: message ?? error.message,
});

const whole = await generateText(asked).catch(failure);

// Its own handler of errors would print them.
const stream = streamText({ ...asked, onError: () => {} });
let streamed;
for await (const part of stream.fullStream) {
  if (part.type === "error") streamed = failure(part.error);
}
console.log(JSON.stringify({ whole, streamed }));
