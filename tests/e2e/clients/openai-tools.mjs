// The openai package: a function tool called by the agent, its result sent back by response id.
import OpenAI from "openai";
import { zodResponsesFunction } from "openai/helpers/zod";
import { model, weather } from "./agent.mjs";

export default async function run({ apiKey, baseURL }) {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const { name, description, schema: parameters } = weather;
  const tools = [zodResponsesFunction({ name, description, parameters })];

  async function answered(asked) {
    const call = asked.output.find((item) => item.type === "function_call");
    const output = weather.run(JSON.parse(call.arguments));
    const input = [{ type: "function_call_output", call_id: call.call_id, output }];
    return client.responses.create({ model, tools, input, previous_response_id: asked.id });
  }

  const asked = await client.responses.create({
    model,
    tools,
    input: 'call get_weather {"city": "Paris"}',
  });
  const whole = await answered(asked);

  const stream = client.responses.stream({
    model,
    tools,
    tool_choice: "required",
    input: 'How is the weather? {"city": "Rome"}',
  });
  let deltas = "";
  stream.on("response.function_call_arguments.delta", (event) => (deltas += event.delta));
  const streamed = await answered(await stream.finalResponse());

  return { whole: whole.output_text, streamed: streamed.output_text, deltas };
}
