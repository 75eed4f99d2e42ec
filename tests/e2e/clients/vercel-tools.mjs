// The Vercel AI SDK: its loop of steps around a tool, whole, streamed, and with a demanded call.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import * as agent from "./agent.mjs";

export default async function run({ apiKey, baseURL }) {
  const { description, schema: inputSchema, run: execute } = agent.weather;
  const asked = {
    model: createOpenAI({ apiKey, baseURL }).responses(agent.model),
    tools: { get_weather: tool({ description, inputSchema, execute }) },
    stopWhen: stepCountIs(3),
    maxRetries: 0,
  };

  const whole = await generateText({ ...asked, prompt: 'call get_weather {"city": "Paris"}' });

  const stream = streamText({ ...asked, prompt: 'call get_weather {"city": "Rome"}' });
  const types = [];
  for await (const part of stream.fullStream) types.push(part.type);

  const demanded = await generateText({
    ...asked,
    prompt: 'How is the weather? {"city": "Nice"}',
    toolChoice: { type: "tool", toolName: "get_weather" },
    stopWhen: stepCountIs(1),
  });

  return {
    whole: { text: whole.text, steps: whole.steps.length },
    streamed: { text: await stream.text, types },
    demanded: demanded.toolCalls.map((call) => [call.toolName, call.input]),
  };
}
