"""What the fork's row makes of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.catalogue import ROWS
from benchmarks.forking import outcome
from benchmarks.report import as_json, cells

if TYPE_CHECKING:
    from benchmarks.results import Outcome

PEER = (
    {"create": 40.0, "copy": 160.0, "mb": 20.0},
    {"create": 60.0, "copy": 140.0, "mb": 20.0},
)


def row(*forks_ms: float) -> Outcome:
    taken = {"fork": [{"ms": each} for each in forks_ms], "both": [*PEER]}
    return outcome(taken, rounds=len(PEER), warm_up=1)


@pytest.mark.parametrize(("last_ms", "is_met"), [(310.0, True), (311.0, False)])
def test_a_fork_may_take_about_as_long_as_a_create_and_a_copy(last_ms: float, is_met: bool) -> None:
    (measure,) = row(290.0, last_ms).measures
    assert measure.peer == 200.0
    assert measure.is_met is is_met


def test_the_table_and_the_json_have_the_row_and_what_it_is_compared_with() -> None:
    made = row(300.0, 300.0)
    assert made.name in ROWS
    assert cells(made.measures[0]) == (
        "POST …/fork → running, median of 2", "300 ms", "200 ms (a warm create and the copy)",
        "1.50 ×", "≤ 1.5 ×", "yes",
    )  # fmt: skip
    assert "20.0 MB" in made.notes[0]
    assert "Create alone: 50.0 ms; copy alone: 150.0 ms." in made.notes[0]
    (told,) = as_json([made], {}, {})["rows"]
    assert told["measures"][0]["samples"]["copy"] == [160.0, 140.0]
