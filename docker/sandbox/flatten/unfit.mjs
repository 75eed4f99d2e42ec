// Notes a shortcut that does not fit this release of OpenClaw, so that the image is built without
// it. `chowder_local/openclaw/shortcuts.py` lists the shortcuts.
import { appendFileSync } from "node:fs";

const NOTES = "/opt/openclaw/unfit.jsonl";

export function unfit(shortcut, reason) {
  const line = reason.replace(/\s+/g, " ").slice(0, 300);
  console.log(`${shortcut} do not fit this OpenClaw: ${line}`);
  appendFileSync(NOTES, `${JSON.stringify({ shortcut, reason: line })}\n`);
}
