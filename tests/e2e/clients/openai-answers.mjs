// The openai package: a whole answer, a streamed one, and what the agent remembers of both.
import OpenAI from "openai";
import { model } from "./agent.mjs";

export default async function run({ apiKey, baseURL }) {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

  const first = await client.responses.create({ model, input: "My name is Ada." });

  const stream = client.responses.stream({ model, input: "Tell me a story." });
  const deltas = [];
  stream.on("response.output_text.delta", (event) => deltas.push(event.delta));
  const streamed = await stream.finalResponse();

  const types = [];
  for await (const event of await client.responses.create({ model, input: "Go on.", stream: true })) {
    types.push(event.type);
  }

  const last = await client.responses.create({
    model,
    input: "What is my name?",
    previous_response_id: streamed.id,
  });

  return {
    first: { text: first.output_text, model: first.model, usage: first.usage },
    streamed: { text: streamed.output_text, deltas, usage: streamed.usage },
    types,
    last: last.output_text,
  };
}
