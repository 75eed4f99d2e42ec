"""What tests came to in an earlier run, and what has become significantly worse since (pure).

Pass rates are compared by Fisher's exact test for two proportions, given the earlier run's verdict:
people commit a run that passed, and by luck alone such a run passed more often than the next will.
All trials are run, so that no number of trials depends on how they end.

Cost, tokens and the like are those of the trials that passed, which depend neither on how many did
nor on the verdict. They become shares, too: those of the trials above a limit in the middle of both
runs, which is the median test of A. M. Mood, "Introduction to the Theory of Statistics" (1950). A
run compares many tests at once, so its comparisons share one error by S. Holm, "A simple
sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979), 65-70;
those whose plans have too few trials to tell anything are left out of it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any, Self

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.trials.statistics import two_proportions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ERROR_RATE = 0.05
"""How often a run in which nothing has changed says of anything that it became worse."""
FORMAT = 2
"""Files of format 1 had no plans, and what failed trials took among the rest."""
PASSES = "pass rate"
COUNTS = ("passed", "counted", "needed")
MEASURES = {
    "cost_usd": "cost",
    "tokens": "tokens",
    "model_calls": "model calls",
    "turns": "turns",
    "took_s": "duration",
}


@dataclass(frozen=True)
class Measures:
    """What a test came to: its passes, and what each of the trials took that passed."""

    passed: int
    counted: int
    """The trials that have an outcome."""
    needed: int
    """So many have to pass for the verdict."""
    values: Mapping[str, Sequence[float]]

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Self:
        values = {name: [float(each) for each in members[name]] for name in MEASURES}
        passed, counted, needed = (int(members[each]) for each in COUNTS)
        if not 0 <= passed <= counted:
            raise ValueError(f"{passed} of {counted} cannot have passed")
        return cls(passed, counted, needed, values)

    def as_json(self) -> dict[str, Any]:
        return {**{each: getattr(self, each) for each in COUNTS}, **self.values}

    @property
    def same_verdict(self) -> range:
        """The numbers of passes that have the same verdict."""
        if self.passed < self.needed:
            return range(min(self.needed, self.counted + 1))
        return range(self.needed, self.counted + 1)


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
        if content["format"] == 1:
            raise SettingsInvalid(
                f"{file} is a baseline of an earlier version, which cannot be compared exactly. "
                "Remove it, and run all its tests: this run writes it anew."
            )
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
        if test in before and before[test].counted and measures.counted
        for each in _comparisons(test, before[test], measures)
    ]
    worse = _significant([each.worse for each in compared if each.can_worsen])
    better = _significant([each.better for each in compared if each.can_improve])
    changes = []
    for each in compared:
        is_better = each.can_improve and each.better <= better
        is_worse = each.can_worsen and each.worse <= worse
        p = each.better if is_better else each.worse
        if each.change is not None:
            changes.append(replace(each.change, p=p, is_worse=is_worse, is_better=is_better))
    return changes


@dataclass(frozen=True)
class _Comparison:
    """How likely a change is by chance, to the worse and to the better.

    Whether it can be significant at all follows from the numbers of trials and the earlier verdict
    alone: how trials end leaves out no comparison.
    """

    change: Change | None
    """None if no trial on one of the sides has the measure, so that nothing has changed."""
    worse: float
    better: float
    can_worsen: bool
    can_improve: bool


def _comparisons(test: str, before: Measures, now: Measures) -> Iterator[_Comparison]:
    shares = before.passed, before.counted, now.passed, now.counted
    rates = before.passed / before.counted, now.passed / now.counted
    chosen = before.same_verdict
    yield _Comparison(
        Change(test, PASSES, *rates, 1.0),
        *_chances(*shares, chosen),
        _chances(chosen[-1], before.counted, 0, now.counted, chosen)[0] <= ERROR_RATE,
        _chances(chosen[0], before.counted, now.counted, now.counted, chosen)[1] <= ERROR_RATE,
    )
    can_tell = two_proportions(before.counted, before.counted, 0, now.counted) <= ERROR_RATE
    for member, measure in MEASURES.items():
        earlier, later = before.values[member], now.values[member]
        change, chances = None, (1.0, 1.0)
        if earlier and later:
            limit = _middle([*earlier, *later])
            low = [sum(each <= limit for each in values) for values in (earlier, later)]
            chances = _chances(low[0], len(earlier), low[1], len(later))
            change = Change(test, measure, mean(earlier), mean(later), 1.0)
        yield _Comparison(change, *chances, can_tell, can_tell)


def _chances(
    good_before: int, before: int, good_now: int, now: int, chosen: range | None = None
) -> tuple[float, float]:
    """How likely a share is so much lower by chance, and so much higher."""
    bad = None if chosen is None else range(before - chosen[-1], before - chosen[0] + 1)
    return (
        two_proportions(good_before, before, good_now, now, chosen),
        two_proportions(before - good_before, before, now - good_now, now, bad),
    )


def _middle(values: Sequence[float]) -> float:
    """The value that divides the values most evenly into those up to it and those above it."""
    ordered = sorted(values)
    half = len(ordered) / 2
    return min(dict.fromkeys(ordered), key=lambda each: abs(bisect_right(ordered, each) - half))


def _significant(chances: Sequence[float]) -> float:
    """The largest of the chances that is significant by Holm's procedure; below 0 if none is."""
    found = -1.0
    for number, chance in enumerate(sorted(chances)):
        if chance > ERROR_RATE / (len(chances) - number):
            break
        found = chance
    return found
