// The Vercel AI SDK: what it makes of a refusal, of a whole answer or of a streamed one.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import * as agent from "./agent.mjs";

export default async function run({ apiKey, baseURL }, { stream }) {
  const model = createOpenAI({ apiKey, baseURL }).responses(agent.model);
  const asked = { model, maxRetries: 0, prompt: "Hello?" };
  const failure = ({ name, statusCode, message, error }) => ({
    kind: name,
    status: statusCode,
    words: message ?? error.message,
  });
  if (!stream) return generateText(asked).catch(failure);

  let failed = null;
  // Its own handler of errors would print them.
  for await (const part of streamText({ ...asked, onError: () => {} }).fullStream) {
    if (part.type === "error") failed = failure(part.error);
  }
  return failed;
}
