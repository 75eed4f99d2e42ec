"""A turn as a timeline: a bar for each of its steps (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.relay.turn_steps import StepKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.turn_steps import Step

WIDTH = 100.0
LEAST_WIDTH = 0.6
"""So that a step of a millisecond is still to be seen."""


@dataclass(frozen=True)
class TimelineRow:
    """A step; `x` and `width` fit a turn of WIDTH."""

    step: Step
    x: float
    width: float
    is_tool: bool


def timeline(turn: TracedTurn, steps: Sequence[Step]) -> list[TimelineRow]:
    """The rows of a turn's steps, in their order."""
    return [_row(each, max(turn.took_s, 0.001)) for each in steps]


def _row(step: Step, turn_s: float) -> TimelineRow:
    took_s = turn_s - step.after_s if step.took_s is None else step.took_s
    width = min(max(WIDTH * took_s / turn_s, LEAST_WIDTH), WIDTH)
    x = min(max(WIDTH * step.after_s / turn_s, 0.0), WIDTH - width)
    return TimelineRow(step, round(x, 2), round(width, 2), step.kind is StepKind.TOOL)
