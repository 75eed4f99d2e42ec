// Runs the programs beside it, one for each line that it reads, and prints what each gives back.
import { createInterface } from "node:readline";

for await (const line of createInterface({ input: process.stdin })) {
  const { program, agent, asked } = JSON.parse(line);
  let answer;
  try {
    const { default: run } = await import(`./${program}`);
    answer = { result: await run(agent, asked) };
  } catch (error) {
    answer = { error: error.stack ?? String(error) };
  }
  console.log(JSON.stringify(answer));
}
