// Approves a pairing code with OpenClaw's command line, because its protocol has no call for codes.
// In: one line of JSON {params: {channel, code}}. Out: one line of JSON {status, output}.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const { value: line } = await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next();
const { channel, code } = JSON.parse(line).params;

// On a busy machine the command takes longer than a program may be silent. Leading spaces are
// valid JSON.
setInterval(() => process.stdout.write(" "), 2_000).unref();

// The engine may drop what an ended program wrote, so this one ends when its answer was read.
function leave() {
  if (process.stdin.readableEnded) process.exit(0);
  process.stdin.once("end", () => process.exit(0));
}

let output = "";
const child = spawn("openclaw", ["pairing", "approve", "--channel", channel, code], {
  env: { ...process.env, NO_COLOR: "1" },
  stdio: ["ignore", "pipe", "pipe"],
});
for (const stream of [child.stdout, child.stderr]) {
  stream.setEncoding("utf8").on("data", (text) => (output += text));
}
child.once("error", (error) => (output += error.message));
child.once("close", (status) => {
  process.stdout.write(`${JSON.stringify({ status, output: output.trim() })}\n`, leave);
});
