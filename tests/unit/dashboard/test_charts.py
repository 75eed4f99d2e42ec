"""Sparklines and bar charts, and their descriptions."""

from __future__ import annotations

import pytest

from chowder_local.core.domain import SandboxUsage
from chowder_local.dashboard.charts import (
    BARS_HEIGHT,
    BARS_WIDTH,
    LINE_HEIGHT,
    LINE_MARGIN,
    LINE_WIDTH,
    Series,
    bar_chart,
    cpu_sparkline,
    memory_sparkline,
)
from chowder_local.instances.monitoring.usage import KEPT, Gauge

TIMES = ["1 May", "2 May", "3 May"]


def words(value: float) -> str:
    return f"{value:g}"


def test_the_highest_stack_fills_the_height() -> None:
    chart = bar_chart("Calls", TIMES, [Series("a", [1, 3, 0]), Series("b", [0, 1, 2])], words)
    assert (chart.top, chart.total) == ("4", "7")
    assert chart.description == "Calls: 7 in all, 4 at most, in the bar of 2 May"
    # Zero has no bar.
    assert [(each.series, each.description) for each in chart.bars] == [
        (0, "1 May, a: 1"),
        (0, "2 May, a: 3"),
        (1, "2 May, b: 1"),
        (1, "3 May, b: 2"),
    ]
    lower, upper = chart.bars[1:3]
    assert lower.y + lower.height == BARS_HEIGHT
    assert upper.y + upper.height == pytest.approx(lower.y)
    assert upper.y == 0
    assert all(each.x >= 0 and each.x + each.width <= BARS_WIDTH for each in chart.bars)


def test_no_values_make_no_bars() -> None:
    assert bar_chart("Cost", TIMES, [Series("a", [0, 0, 0])], words).bars == []
    assert bar_chart("Cost", [], [], words).description == "Cost: 0 in all"


def gauge(*usages: tuple[int, float]) -> Gauge:
    """A gauge with one sample a second: bytes, and processor seconds so far."""
    made = Gauge()
    for at_s, (memory_bytes, cpu_s) in enumerate(usages):
        made.read(SandboxUsage(memory_bytes, 2_000_000_000, cpu_s, float(at_s)))
    return made


def test_memory_is_drawn_relative_to_its_limit() -> None:
    chart = memory_sparkline(gauge((0, 0.0), (1_000_000_000, 0.0), (2_000_000_000, 0.0)))
    heights = [float(each.split(",")[1]) for each in chart.points.split()]
    assert heights == [LINE_HEIGHT - LINE_MARGIN, LINE_HEIGHT / 2, LINE_MARGIN]
    assert chart.latest == "2.0 GB"
    assert chart.description == "Memory 2.0 GB of 2.0 GB; between 0 B and 2.0 GB recently"


def test_the_latest_reading_is_at_the_right_end() -> None:
    places = [
        [
            float(each.split(",")[0])
            for each in memory_sparkline(gauge(*[(1, 0.0)] * count)).points.split()
        ]
        for count in (1, 2, KEPT, 2 * KEPT)
    ]
    assert all(each[-1] == LINE_WIDTH for each in places)
    assert [len(each) for each in places] == [1, 2, KEPT, KEPT]
    assert places[2][0] == places[3][0] == 0.0


def test_the_area_is_closed_at_the_bottom() -> None:
    chart = memory_sparkline(gauge((1, 0.0), (1, 0.0)))
    assert chart.area.startswith(f"{chart.points.split(',')[0]},{LINE_HEIGHT} ")
    assert chart.area.endswith(f" {LINE_WIDTH:.1f},{LINE_HEIGHT}")


def test_processor_use_is_known_from_the_second_reading() -> None:
    assert cpu_sparkline(gauge((1, 5.0))) is None
    chart = cpu_sparkline(gauge((1, 5.0), (1, 5.5), (1, 5.5)))
    assert chart is not None
    assert (chart.latest, chart.description) == (
        "0 %",
        "Processor 0 %; between 0 % and 50 % recently",
    )


def test_the_use_of_several_processors_fits_the_chart() -> None:
    chart = cpu_sparkline(gauge((1, 0.0), (1, 2.0), (1, 3.0)))
    assert chart is not None
    assert [float(each.split(",")[1]) for each in chart.points.split()] == [
        LINE_MARGIN,
        LINE_HEIGHT / 2,
    ]


def test_without_a_limit_the_highest_reading_is_the_top() -> None:
    unbounded = Gauge()
    for at_s in range(2):
        unbounded.read(SandboxUsage(500 * (1 + at_s), 0, 0.0, float(at_s)))
    assert memory_sparkline(unbounded).points.split()[-1].endswith(f",{LINE_MARGIN:.1f}")
    nothing = Gauge()
    nothing.read(SandboxUsage(0, 0, 0.0, 0.0))
    assert memory_sparkline(nothing).latest == "0 B"
