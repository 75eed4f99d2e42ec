"""The approvals of the test helpers for JavaScript, with calls that the test answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

MODULE = Path(__file__).parents[3] / "js/src/test.js"
PROGRAM = """
const { agents } = await import(process.argv[1]);
const chowder = agents({ before() {}, after() {} });
let begin, end;
const begun = new Promise((resolve) => { begin = resolve; });
const over = new Promise((resolve) => { end = resolve; });
const waiting = ["ls", "gone"].map((command, id) => ({ id, command }));
const seen = [];
let approvals;
chowder.client = {
  async call(id) {
    if (id === "getApprovalPolicy") return { ask: "off" };
    if (id === "listApprovals") {
      await begun;
      if (waiting.length === 0) end();
      return waiting.splice(0);
    }
    if (id === "decideApproval") {
      // The agent goes on from here.
      seen.push(approvals.decided.map(({ command }) => command));
      if (seen.length === 2) throw Object.assign(new Error("gone"), { status: 404 });
    }
  },
};
approvals = await chowder.approvals({ id: "agent", isThere: true });
begin();
await over;
console.log(JSON.stringify([seen, approvals.decided]));
process.exit();
"""


def test_a_decision_is_listed_before_the_agent_goes_on_unless_its_turn_has_ended() -> None:
    command = ["node", "--input-type=module", "-e", PROGRAM, MODULE.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen, decided = json.loads(done.stdout)
    assert seen == [["ls"], ["ls", "gone"]]
    assert decided == [{"command": "ls", "decision": "allow_once"}]
