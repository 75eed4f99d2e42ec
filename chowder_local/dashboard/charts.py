"""Sparklines, bar charts and timelines, with descriptions for screen readers (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.wording import size_of
from chowder_local.instances.monitoring.usage import KEPT
from chowder_local.relay.turn_steps import StepKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.instances.monitoring.usage import Gauge
    from chowder_local.relay.turn_steps import Step

LINE_WIDTH, LINE_HEIGHT = 96, 24
LINE_MARGIN = 2
BARS_WIDTH, BARS_HEIGHT = 720, 150
BAR_GAP = 0.25
"""The gap between two bars, as a fraction of the width per bar."""
SERIES_MAX = 6
"""The number of colours."""


@dataclass(frozen=True)
class Sparkline:
    """`points` fit an SVG of LINE_WIDTH by LINE_HEIGHT; `description` is for screen readers."""

    points: str
    latest: str
    description: str

    @property
    def area(self) -> str:
        """The polygon below the line."""
        first, last = self.points.split(" ")[0], self.points.split(" ")[-1]
        return (
            f"{first.split(',')[0]},{LINE_HEIGHT} {self.points} {last.split(',')[0]},{LINE_HEIGHT}"
        )


def memory_sparkline(gauge: Gauge) -> Sparkline:
    """An agent's memory, as a fraction of its limit."""
    readings = list(gauge.memory_bytes)
    limit = gauge.memory_limit_bytes or max(readings, default=0)
    latest = size_of(readings[-1])
    description = f"Memory {latest} of {size_of(limit)}; {_between(readings, size_of)}"
    return Sparkline(_points(readings, limit), latest, description)


def cpu_sparkline(gauge: Gauge) -> Sparkline | None:
    """An agent's processor use; None before the second sample."""
    readings = list(gauge.cpu)
    if not readings:
        return None
    # The top is one processor, or the highest reading if that is more.
    top = max(1.0, *readings)
    latest = _percent(readings[-1])
    description = f"Processor {latest}; {_between(readings, _percent)}"
    return Sparkline(_points(readings, top), latest, description)


def _points(readings: Sequence[float], top: float) -> str:
    """The points of a line whose right end is the latest reading."""
    step = LINE_WIDTH / (KEPT - 1)
    left = LINE_WIDTH - step * (len(readings) - 1)
    room = LINE_HEIGHT - 2 * LINE_MARGIN
    heights = [min(1.0, each / top) if top else 0.0 for each in readings]
    return " ".join(
        f"{left + step * at:.1f},{LINE_HEIGHT - LINE_MARGIN - room * height:.1f}"
        for at, height in enumerate(heights)
    )


def _between(readings: Sequence[float], to_text: Callable[[float], str]) -> str:
    return f"between {to_text(min(readings))} and {to_text(max(readings))} recently"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


@dataclass(frozen=True)
class Series:
    """The values of one colour, one for each time."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Bar:
    """A rectangle in an SVG of BARS_WIDTH by BARS_HEIGHT; `series` is its colour."""

    x: float
    y: float
    width: float
    height: float
    series: int
    description: str


@dataclass(frozen=True)
class BarChart:
    """Stacked bars; `top` is the value of the highest stack, `description` for screen readers."""

    title: str
    bars: Sequence[Bar]
    top: str
    total: str
    description: str


def bar_chart(
    title: str, times: Sequence[str], series: Sequence[Series], to_text: Callable[[float], str]
) -> BarChart:
    """The chart of series with a value for each of `times`."""
    sums = [sum(each.values[at] for each in series) for at in range(len(times))]
    top = max(sums, default=0)
    width = BARS_WIDTH / max(1, len(times))
    bars: list[Bar] = []
    for at, time in enumerate(times):
        below = 0.0
        for number, each in enumerate(series):
            if not (value := each.values[at]):
                continue
            height = BARS_HEIGHT * value / top
            below += height
            bars.append(
                Bar(
                    x=round(width * (at + BAR_GAP / 2), 2),
                    y=round(BARS_HEIGHT - below, 2),
                    width=round(width * (1 - BAR_GAP), 2),
                    height=round(height, 2),
                    series=number,
                    description=f"{time}, {each.name}: {to_text(value)}",
                )
            )
    description = f"{title}: {to_text(sum(sums))} in all"
    if top:
        description += f", {to_text(top)} at most, in the bar of {times[sums.index(top)]}"
    return BarChart(title, bars, to_text(top), to_text(sum(sums)), description)


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
