// The openai package: what it makes of a refusal, of a whole answer or of a streamed one.
import OpenAI from "openai";
import { model } from "./agent.mjs";

export default async function run({ apiKey, baseURL }, more) {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  try {
    const answer = await client.responses.create({ model, input: "Hello?", ...more });
    if (!more.stream) return answer;
    for await (const { type } of answer) {
      if (type === "response.failed") return { words: "what comes after the error was read" };
    }
    return null;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, words: error.message };
  }
}
