"""What a benchmark found, and whether that is what was wanted (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Rule(StrEnum):
    """What of a measure a goal is about."""

    AT_MOST = "at most"
    RATIO_AT_MOST = "ratio at most"
    RATIO_AT_LEAST = "ratio at least"
    MORE_AT_MOST = "more than the other by at most"


@dataclass(frozen=True)
class Goal:
    """A bound; it is met at the bound itself, too."""

    rule: Rule
    bound: float


@dataclass(frozen=True)
class Measure:
    """A figure of ours beside the same figure of a peer, from the same rounds."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    goal: Goal | None = None
    statistic: str = "median"
    rounds: int = 1
    more: float | None = None
    """By how much ours is more, where that is not simply the difference of the two figures."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """All single values, so that whoever doubts the figure can look."""

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's."""
        return None if not self.peer else self.ours / self.peer

    @property
    def difference(self) -> float | None:
        """By how much ours is more."""
        if self.more is not None:
            return self.more
        return None if self.peer is None else self.ours - self.peer

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None if there is none.

        A goal without the figure that it is about is not met.
        """
        if self.goal is None:
            return None
        of_rule = {Rule.AT_MOST: self.ours, Rule.MORE_AT_MOST: self.difference}
        value = of_rule.get(self.goal.rule, self.ratio)
        if value is None:
            return False
        if self.goal.rule is Rule.RATIO_AT_LEAST:
            return value >= self.goal.bound
        return value <= self.goal.bound


@dataclass(frozen=True)
class Outcome:
    """A row's measures, or why there are none."""

    name: str
    title: str
    measures: tuple[Measure, ...] = ()
    warm_up: int = 0
    notes: tuple[str, ...] = ()
    problem: str | None = None
