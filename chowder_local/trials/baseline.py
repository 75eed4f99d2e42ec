"""What tests came to in an earlier run, and what has become significantly worse since (pure).

Shares are compared by Fisher's exact test for two proportions. Cost, tokens and the like become
shares, too: those of the trials that are above the median of the earlier ones, which is the median
test of A. M. Mood, "Introduction to the Theory of Statistics" (1950). A run compares many tests at
once, so its comparisons share one error by S. Holm, "A simple sequentially rejective multiple test
procedure", Scandinavian Journal of Statistics 6 (1979), 65-70; those with too few trials to tell
anything are left out of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Self

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.trials.statistics import two_proportions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ERROR_RATE = 0.05
"""How often a run in which nothing has changed says of anything that it became worse."""
FORMAT = 1
PASSES = "pass rate"
MEASURES = {
    "cost_usd": "cost",
    "tokens": "tokens",
    "model_calls": "model calls",
    "turns": "turns",
    "took_s": "duration",
}


@dataclass(frozen=True)
class Measures:
    """What a test came to: its passes, and what each of its trials took."""

    passed: int
    counted: int
    values: Mapping[str, Sequence[float]]

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Self:
        values = {name: [float(each) for each in members[name]] for name in MEASURES}
        return cls(int(members["passed"]), int(members["counted"]), values)

    def as_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "counted": self.counted, **self.values}


@dataclass(frozen=True)
class Change:
    """How a measure of a test changed, and whether that is significant."""

    test: str
    measure: str
    before: float
    now: float
    p: float
    """How likely a change so far in its direction, or further, is by chance."""
    is_worse: bool = False
    is_better: bool = False

    @property
    def is_failure(self) -> bool:
        """Whether it fails a run. A duration does not: it is the machine's as well."""
        return self.is_worse and self.measure != MEASURES["took_s"]

    def __str__(self) -> str:
        word = "worse" if self.is_worse else "better" if self.is_better else "as before"
        return (
            f"{self.test}: {self.measure} {word}: {self.before:.4g} before, {self.now:.4g} now "
            f"(p = {self.p:.2g})"
        )


def read_baseline(file: Path) -> dict[str, Measures]:
    """The measures of a file by test. Raises SettingsInvalid if it is no baseline."""
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} is not {FORMAT}")
        return {name: Measures.from_json(each) for name, each in content["tests"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise SettingsInvalid(
            f"{file} is no baseline of tests ({problem!r}). Remove it, or name another file."
        ) from None


def write_baseline(file: Path, tests: Mapping[str, Measures]) -> None:
    """Writes the measures, one test a line, so that a diff of the file shows what changed."""
    lines = (
        f"    {json.dumps(name)}: {json.dumps(each.as_json())}"
        for name, each in sorted(tests.items())
    )
    body = ",\n".join(lines)
    text = f'{{\n  "format": {FORMAT},\n  "tests": {{\n{body}\n  }}\n}}\n'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def compare(before: Mapping[str, Measures], now: Mapping[str, Measures]) -> list[Change]:
    """What changed in the tests that both have, by test and measure."""
    compared = [
        each
        for test, measures in now.items()
        if test in before
        for each in _changes(test, before[test], measures)
    ]
    worse = _significant([p for _, p, _, can_tell in compared if can_tell])
    better = _significant([p for _, _, p, can_tell in compared if can_tell])
    changes = []
    for each, p_worse, p_better, can_tell in compared:
        is_better = can_tell and p_better <= better
        is_worse = can_tell and p_worse <= worse
        p = p_better if is_better else p_worse
        changes.append(replace(each, p=p, is_worse=is_worse, is_better=is_better))
    return changes


def _changes(
    test: str, before: Measures, now: Measures
) -> Iterator[tuple[Change, float, float, bool]]:
    """Each change, how likely it is by chance to the worse and to the better, and if it tells."""
    if before.counted and now.counted:
        rates = before.passed / before.counted, now.passed / now.counted
        shares = before.passed, before.counted, now.passed, now.counted
        yield _change(test, PASSES, rates, shares)
    for member, measure in MEASURES.items():
        earlier, later = before.values[member], now.values[member]
        if earlier and later:
            middle = median(earlier)
            low = [sum(each <= middle for each in values) for values in (earlier, later)]
            shares = low[0], len(earlier), low[1], len(later)
            yield _change(test, measure, (mean(earlier), mean(later)), shares)


def _change(
    test: str, measure: str, rates: tuple[float, float], shares: tuple[int, int, int, int]
) -> tuple[Change, float, float, bool]:
    good_before, before, good_now, now = shares
    worse = two_proportions(good_before, before, good_now, now)
    better = two_proportions(before - good_before, before, now - good_now, now)
    can_tell = two_proportions(before, before, 0, now) <= ERROR_RATE
    return Change(test, measure, *rates, worse), worse, better, can_tell


def _significant(chances: Sequence[float]) -> float:
    """The largest of the chances that is significant by Holm's procedure; below 0 if none is."""
    found = -1.0
    for number, chance in enumerate(sorted(chances)):
        if chance > ERROR_RATE / (len(chances) - number):
            break
        found = chance
    return found
