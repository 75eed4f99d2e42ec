"""When a goal is met, and when nobody can say so."""

from __future__ import annotations

import pytest

from benchmarks.results import Goal, Measure, Rule


def measured(rule: Rule | None, ours: float, peer: float | None, **more: float) -> Measure:
    goal = None if rule is None else Goal(rule, 2.0)
    return Measure("a thing", "ms", ours, peer, goal=goal, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "ours", "peer", "is_met"),
    [
        (Rule.AT_MOST, 2.0, 1.0, True),
        (Rule.AT_MOST, 2.1, 100.0, False),
        (Rule.AT_MOST, 2.0, None, True),
        (Rule.RATIO_AT_MOST, 20.0, 10.0, True),
        (Rule.RATIO_AT_MOST, 20.1, 10.0, False),
        (Rule.RATIO_AT_LEAST, 20.0, 10.0, True),
        (Rule.RATIO_AT_LEAST, 19.9, 10.0, False),
        (Rule.MORE_AT_MOST, 12.0, 10.0, True),
        (Rule.MORE_AT_MOST, 12.1, 10.0, False),
        (Rule.MORE_AT_MOST, 5.0, 10.0, True),
    ],
)
def test_a_goal_is_met_up_to_its_bound(
    rule: Rule, ours: float, peer: float | None, is_met: bool
) -> None:
    assert measured(rule, ours, peer).is_met is is_met


@pytest.mark.parametrize("rule", [Rule.RATIO_AT_MOST, Rule.RATIO_AT_LEAST, Rule.MORE_AT_MOST])
def test_a_goal_that_needs_a_peer_is_not_met_without_one(rule: Rule) -> None:
    assert measured(rule, 1.0, None).is_met is False


def test_without_a_goal_nothing_is_met_or_missed() -> None:
    assert measured(None, 1.0, 2.0).is_met is None


def test_a_peer_of_nothing_has_no_ratio() -> None:
    assert measured(None, 1.0, 0.0).ratio is None


def test_a_difference_that_was_found_in_pairs_counts_instead_of_the_figures() -> None:
    measure = measured(Rule.MORE_AT_MOST, 100.0, 10.0, more=1.5)
    assert measure.difference == 1.5
    assert measure.is_met is True
