// The Vercel AI SDK: an object that fits a schema, whole, streamed, and beside a tool.
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, Output, stepCountIs, streamObject, tool } from "ai";
import { z } from "zod";
import * as agent from "./agent.mjs";

export default async function run({ apiKey, baseURL }) {
  const { description, schema: inputSchema, run: execute } = agent.weather;
  const model = createOpenAI({ apiKey, baseURL }).responses(agent.model);
  const schema = z.object({ city: z.string(), people: z.number().int() });
  const asked = { model, schema, maxRetries: 0, prompt: 'Where? {"city": "Oslo", "people": 700000}' };

  const whole = await generateObject(asked);
  const stream = streamObject(asked);
  // The SDK's promise of the object waits for somebody to read.
  for await (const _ of stream.partialObjectStream);
  const withTool = await generateText({
    model,
    maxRetries: 0,
    prompt: 'call get_weather {"city": "Paris"}',
    tools: { get_weather: tool({ description, inputSchema, execute }) },
    output: Output.object({ schema: z.object({ city: z.string() }) }),
    stopWhen: stepCountIs(3),
  });

  return {
    whole: whole.object,
    streamed: await stream.object,
    withTool: { calls: withTool.steps[0].toolCalls.length, city: typeof withTool.output.city },
  };
}
