"""Readings as the points of a small chart, and in words for who does not see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.formatting import size_of
from chowder_local.instances.monitoring.usage_samples import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chowder_local.instances.monitoring.usage_samples import Gauge

WIDTH, HEIGHT = 96, 24
MARGIN = 2


@dataclass(frozen=True)
class Chart:
    """A line: `points` for an SVG of WIDTH by HEIGHT, the latest reading, and all in words."""

    points: str
    latest: str
    words: str

    @property
    def area(self) -> str:
        """What is below the line."""
        first, last = self.points.split(" ")[0], self.points.split(" ")[-1]
        return f"{first.split(',')[0]},{HEIGHT} {self.points} {last.split(',')[0]},{HEIGHT}"


def memory_chart(gauge: Gauge) -> Chart:
    """What an agent takes of the memory that it may have."""
    readings = list(gauge.memory_bytes)
    limit = gauge.memory_limit_bytes or max(readings, default=0)
    latest = size_of(readings[-1])
    words = f"Memory {latest} of {size_of(limit)}; {_between(readings, size_of)}"
    return Chart(_points(readings, limit), latest, words)


def cpu_chart(gauge: Gauge) -> Chart | None:
    """What an agent takes of processors; None before there are two readings to compare."""
    readings = list(gauge.cpu)
    if not readings:
        return None
    # Of one processor, unless it has had more: a line at the top is then what it had at most.
    top = max(1.0, *readings)
    return Chart(
        _points(readings, top),
        _percent(readings[-1]),
        f"Processor {_percent(readings[-1])}; {_between(readings, _percent)}",
    )


def _points(readings: Sequence[float], top: float) -> str:
    """The latest reading is at the right, where the next ones push it to the left."""
    step = WIDTH / (KEPT - 1)
    left = WIDTH - step * (len(readings) - 1)
    room = HEIGHT - 2 * MARGIN
    heights = [min(1.0, each / top) if top else 0.0 for each in readings]
    return " ".join(
        f"{left + step * at:.1f},{HEIGHT - MARGIN - room * height:.1f}"
        for at, height in enumerate(heights)
    )


def _between(readings: Sequence[float], worded: Callable[[float], str]) -> str:
    return f"between {worded(min(readings))} and {worded(max(readings))} of late"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
