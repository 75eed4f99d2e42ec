"""Results of a benchmark, and whether they meet their goals (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Rule(StrEnum):
    """The figure of a measure that a goal limits."""

    AT_MOST = "at most"
    RATIO_AT_MOST = "ratio at most"
    RATIO_AT_LEAST = "ratio at least"
    MORE_AT_MOST = "more than the other by at most"


@dataclass(frozen=True)
class Goal:
    """A goal with an inclusive bound."""

    rule: Rule
    bound: float


@dataclass(frozen=True)
class Measure:
    """A figure of this server and of a peer, from the same rounds."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    goal: Goal | None = None
    statistic: str = "median"
    rounds: int = 1
    more: float | None = None
    """The difference, if it is not simply that of the two figures."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """All single values, by subject."""

    @property
    def ratio(self) -> float | None:
        """The ratio of the server's figure to the peer's."""
        return None if not self.peer else self.ours / self.peer

    @property
    def difference(self) -> float | None:
        """The server's figure minus the peer's."""
        if self.more is not None:
            return self.more
        return None if self.peer is None else self.ours - self.peer

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None if there is none.

        A goal without its figure is not met.
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
    """The measures of a row, or the reason for their absence."""

    name: str
    title: str
    measures: tuple[Measure, ...] = ()
    warm_up: int = 0
    notes: tuple[str, ...] = ()
    problem: str | None = None
