// The agent that all programs here talk with, and a tool for it.
import { z } from "zod";

export const baseURL = process.env.AGENT_URL;
export const apiKey = process.env.AGENT_KEY;
export const model = "gpt-4o";

export const weather = {
  name: "get_weather",
  description: "The weather in a city.",
  schema: z.object({ city: z.string() }),
  run: ({ city }) => `18 °C in ${city}`,
};
