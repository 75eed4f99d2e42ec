"""Rounds in which subjects take turns, and the few statistics that are made of them (pure)."""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Sample = dict[str, float]
"""What one subject came to in one round, by the name of what was measured."""

Samples = dict[str, list[Sample]]
"""The samples of each subject, in the order of the rounds."""


def alternately(
    subjects: Mapping[str, Callable[[], Sample]],
    rounds: int,
    warm_up: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Samples:
    """Has every subject measured once a round; the warm-up rounds before are thrown away.

    Who comes first changes with each round, so that nobody always finds the machine as the same
    other left it.
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


def column(samples: Sequence[Sample], metric: str) -> list[float]:
    """One metric of a subject's samples."""
    return [sample[metric] for sample in samples]


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(median(values))


def mean(values: Sequence[float]) -> float:
    """For what the system counts in ticks that are longer than a single value."""
    return fmean(values)


def p99(values: Sequence[float]) -> float:
    """The smallest value that at least 99 of 100 do not exceed; with fewer, the largest."""
    ordered = sorted(values)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def paired_difference(ours: Sequence[float], peers: Sequence[float]) -> float:
    """The median of what ours took more in the same round: what drifts with the rounds cancels."""
    return middle([mine - theirs for mine, theirs in zip(ours, peers, strict=True)])
