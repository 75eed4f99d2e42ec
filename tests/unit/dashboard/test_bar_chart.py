"""Bars on top of each other, and the words for them."""

from __future__ import annotations

import pytest

from chowder_local.dashboard.bar_chart import HEIGHT, WIDTH, Series, bar_chart

TIMES = ["1 May", "2 May", "3 May"]


def words(value: float) -> str:
    return f"{value:g}"


def test_the_highest_bar_is_as_high_as_there_is_room() -> None:
    chart = bar_chart("Calls", TIMES, [Series("a", [1, 3, 0]), Series("b", [0, 1, 2])], words)
    assert (chart.top, chart.total) == ("4", "7")
    assert chart.words == "Calls: 7 in all, 4 at most, in the bar of 2 May"
    # What is nothing has no bar.
    assert [(each.series, each.words) for each in chart.bars] == [
        (0, "1 May, a: 1"),
        (0, "2 May, a: 3"),
        (1, "2 May, b: 1"),
        (1, "3 May, b: 2"),
    ]
    lower, upper = chart.bars[1:3]
    assert lower.y + lower.height == HEIGHT
    assert upper.y + upper.height == pytest.approx(lower.y)
    assert upper.y == 0
    assert all(each.x >= 0 and each.x + each.width <= WIDTH for each in chart.bars)


def test_nothing_is_drawn_of_nothing() -> None:
    assert bar_chart("Cost", TIMES, [Series("a", [0, 0, 0])], words).bars == []
    assert bar_chart("Cost", [], [], words).words == "Cost: 0 in all"
