"""The package for JavaScript has the same statistics and seeds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from chowder_local.trials.run import trial_of
from chowder_local.trials.statistics import Plan

MODULE = Path(__file__).parents[3] / "js/src/trials.js"
PROGRAM = """
const { Plan, trialOf } = await import(process.argv[1]);
const plans = JSON.parse(process.argv[2]).map(([trials, atLeast, confidence, counts]) => {
  const plan = new Plan({ trials, atLeast, confidence });
  const verdicts = counts.map((each) => plan.verdict(...each) ?? null);
  return [plan.z, verdicts, plan.trialsToProve(0.97) ?? null];
});
console.log(JSON.stringify([plans, trialOf(7, 3).seed]));
"""


def test_it_has_the_same_widths_verdicts_and_seeds() -> None:
    counts = [(0, 3, 0), (9, 2, 1), (18, 0, 0), (17, 1, 2), (40, 10, 0), (67, 0, 0), (2, 10, 0)]
    plans = [
        (trials, at_least, confidence, counts)
        for trials in (5, 20, 100)
        for at_least in (0.5, 0.9, 1.0)
        for confidence in (0.9, 0.95)
    ]
    command = ["node", "--input-type=module", "-e", PROGRAM, MODULE.as_uri(), json.dumps(plans)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, seed = json.loads(done.stdout)
    assert seed == trial_of(7, 3).seed
    for (trials, at_least, confidence, _), (z, verdicts, number) in zip(plans, found, strict=True):
        plan = Plan(trials, at_least, confidence)
        assert abs(z - plan.z) < 1e-5
        assert verdicts == [plan.verdict(*each) for each in counts]
        assert number == plan.trials_to_prove(0.97)
