"""Makes measures from a metric of two subjects (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.results import Goal, Measure, Rule
from benchmarks.samples import column, middle, p99, paired_difference

if TYPE_CHECKING:
    from benchmarks.samples import Samples


def compare(
    taken: Samples,
    metric: str,
    what: str,
    unit: str,
    peer: str,
    peer_name: str,
    goal: Goal | None = None,
    *,
    ours: str = "ours",
    more: float | None = None,
) -> Measure:
    """The medians of a metric of the subjects `ours` and `peer`, with all single values."""
    mine, theirs = column(taken[ours], metric), column(taken[peer], metric)
    return Measure(
        what,
        unit,
        middle(mine),
        middle(theirs),
        peer_name,
        goal,
        rounds=len(mine),
        more=more,
        samples={ours: mine, peer: theirs},
    )


def compare_ways(
    taken: Samples, metric: str, what: str, goal_ms: float | None, goal_of_p99_ms: float | None
) -> list[Measure]:
    """Median and p99 of a metric in milliseconds, through the server and straight to the gateway.

    The difference is the median of each round's difference, which cancels drift between rounds.
    """
    mine, theirs = column(taken["ours"], metric), column(taken["straight"], metric)
    more = paired_difference(mine, theirs)
    goal, goal_of_p99 = _more_at_most(goal_ms), _more_at_most(goal_of_p99_ms)
    return [
        compare(taken, metric, what, "ms", "straight", "straight", goal, more=more),
        Measure(what, "ms", p99(mine), p99(theirs), "straight", goal_of_p99, "p99", len(mine)),
    ]


def _more_at_most(bound: float | None) -> Goal | None:
    return None if bound is None else Goal(Rule.MORE_AT_MOST, bound)
