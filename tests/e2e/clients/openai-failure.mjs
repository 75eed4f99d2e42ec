// The openai package: what it makes of a refusal, of a whole answer and of a streamed one.
import OpenAI from "openai";
import { apiKey, baseURL, model } from "./agent.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const asked = { model, input: "Hello?", ...JSON.parse(process.env.AGENT_ASKED) };

async function failure(answer) {
  try {
    return await answer;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, words: error.message };
  }
}

async function read() {
  const events = await client.responses.create({ ...asked, stream: true });
  for await (const { type } of events) {
    if (type === "response.failed") return { words: "what comes after the error was read" };
  }
}

const whole = await failure(client.responses.create(asked));
const streamed = await failure(read());
console.log(JSON.stringify({ whole, streamed }));
