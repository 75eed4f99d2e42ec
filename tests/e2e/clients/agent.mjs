// The model that all programs here ask for, and a tool for it.
import { z } from "zod";

export const model = "gpt-4o";

export const weather = {
  name: "get_weather",
  description: "The weather in a city.",
  schema: z.object({ city: z.string() }),
  run: ({ city }) => `18 °C in ${city}`,
};
