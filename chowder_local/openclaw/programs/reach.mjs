// Checks whether the sandbox reaches ClawHub at the address that OpenClaw's client uses. That
// client itself reports a failure only after four attempts, which take 14 s or more.
// In: one line of JSON {slug, timeoutMs}. Out: one line of JSON {url, status | error}.
import { createInterface } from "node:readline";

const { value: line } = await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next();
const { slug, timeoutMs } = JSON.parse(line);
const url = (
  process.env.OPENCLAW_CLAWHUB_URL || process.env.CLAWHUB_URL || "https://clawhub.ai"
).replace(/\/+$/, "");

// The engine may drop what an ended program wrote, so this one ends when its answer was read.
function leave() {
  if (process.stdin.readableEnded) process.exit(0);
  process.stdin.once("end", () => process.exit(0));
}

function end(answer) {
  process.stdout.write(`${JSON.stringify({ url, ...answer })}\n`, leave);
}

try {
  const address = `${url}/api/v1/skills/${encodeURIComponent(slug)}`;
  const answer = await fetch(address, { signal: AbortSignal.timeout(timeoutMs) });
  end({ status: answer.status });
} catch (failure) {
  end({ error: failure.cause?.message || failure.message });
}
