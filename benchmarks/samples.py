"""Rounds in which subjects are measured in turn, and statistics of them (pure)."""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LATER_MESSAGES = 5

Sample = dict[str, float]
"""The values of one subject in one round, by metric."""

Samples = dict[str, list[Sample]]
"""The samples by subject, in the order of the rounds."""


def alternately(
    subjects: Mapping[str, Callable[[], Sample]],
    rounds: int,
    warm_up: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Samples:
    """Measures every subject once in each round, and discards the warm-up rounds.

    The order rotates with each round, so that no subject always follows the same other one.
    """
    kept: Samples = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(-warm_up, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            label = f"round {number + 1} of {rounds}" if number >= 0 else "warm-up round"
            progress(f"{label}: {name}")
            sample = subjects[name]()
            if number >= 0:
                kept[name].append(sample)
    return kept


def first_and_later(say: Callable[[str], float]) -> Sample:
    """The milliseconds of a message, and the median of the next ones."""
    first_ms = say("Hello.")
    return {
        "first": first_ms,
        "later": middle([say(f"Message {number}.") for number in range(LATER_MESSAGES)]),
    }


def column(samples: Sequence[Sample], metric: str) -> list[float]:
    """One metric of a subject's samples."""
    return [sample[metric] for sample in samples]


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(median(values))


def mean(values: Sequence[float]) -> float:
    """The mean, for values that the system measures in coarse ticks."""
    return fmean(values)


def p99(values: Sequence[float]) -> float:
    """The smallest value that 99 % of all do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def paired_difference(ours: Sequence[float], peers: Sequence[float]) -> float:
    """The median of each round's difference, which cancels drift between rounds."""
    return middle([mine - theirs for mine, theirs in zip(ours, peers, strict=True)])
