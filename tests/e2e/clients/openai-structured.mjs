// The openai package: an answer that fits a schema, parsed.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { model } from "./agent.mjs";

export default async function run({ apiKey, baseURL }) {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const place = z.object({ city: z.string(), people: z.number().int() });
  const asked = {
    model,
    input: 'Which place? {"city": "Oslo", "people": 700000}',
    text: { format: zodTextFormat(place, "place") },
  };

  const whole = await client.responses.parse(asked);
  const streamed = await client.responses.stream(asked).finalResponse();
  return { whole: whole.output_parsed, streamed: streamed.output_parsed };
}
