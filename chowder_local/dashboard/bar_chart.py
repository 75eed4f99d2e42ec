"""Sums over time as bars on top of each other, and in words for who does not see them (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 720, 150
GAP = 0.25
"""Between two bars, as a part of what each has."""
SERIES_MAX = 6
"""As many as there are colours."""


@dataclass(frozen=True)
class Series:
    """What is told apart by its colour: a value for each time."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Bar:
    """A rectangle in WIDTH by HEIGHT; `words` say what it is."""

    x: float
    y: float
    width: float
    height: float
    series: int
    words: str


@dataclass(frozen=True)
class BarChart:
    """Bars with what is at the top; `words` are the whole of it."""

    title: str
    bars: Sequence[Bar]
    top: str
    total: str
    words: str


def bar_chart(
    title: str, times: Sequence[str], series: Sequence[Series], worded: Callable[[float], str]
) -> BarChart:
    """The chart of some series that have a value for each of the times."""
    sums = [sum(each.values[at] for each in series) for at in range(len(times))]
    top = max(sums, default=0)
    width = WIDTH / max(1, len(times))
    bars: list[Bar] = []
    for at, time in enumerate(times):
        below = 0.0
        for number, each in enumerate(series):
            if not (value := each.values[at]):
                continue
            height = HEIGHT * value / top
            below += height
            bars.append(
                Bar(
                    x=round(width * (at + GAP / 2), 2),
                    y=round(HEIGHT - below, 2),
                    width=round(width * (1 - GAP), 2),
                    height=round(height, 2),
                    series=number,
                    words=f"{time}, {each.name}: {worded(value)}",
                )
            )
    words = f"{title}: {worded(sum(sums))} in all"
    if top:
        words += f", {worded(top)} at most, in the bar of {times[sums.index(top)]}"
    return BarChart(title, bars, worded(top), worded(sum(sums)), words)
