// The openai package: what it makes of a refusal, of a whole answer and of a streamed one.
import OpenAI from "openai";
import { apiKey, baseURL, model } from "./agent.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const asked = { model, input: "Hello?" };

async function failure(answer) {
  try {
    return await answer;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, words: error.message };
  }
}

async function lastError() {
  let error;
  for await (const event of await client.responses.create({ ...asked, stream: true })) {
    if (event.type === "response.failed") error = event.response.error;
  }
  return { words: error.message };
}

const whole = await failure(client.responses.create(asked));
const streamed = await failure(lastError());
console.log(JSON.stringify({ whole, streamed }));
