"""What a person reads, what the documentation shows, and what a machine gets."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from benchmarks.report import as_json, cells, markdown, number, table
from benchmarks.results import Goal, Measure, Outcome, Rule

MACHINE = {
    "date": "2026-05-04",
    "cpu_count": 2,
    "cpu_model": "A processor",
    "memory_gib": 24,
    "kernel": "6.1",
    "engine": "Docker 28",
    "openclaw": "2026.9.6",
    "version": "0.1.0",
}
SLOW = Measure(
    "create", "ms", 300.0, 15.0, "unpause", Goal(Rule.AT_MOST, 250), rounds=5,
    samples={"ours": [299.0, 300.0, 301.0]},
)  # fmt: skip
QUICK = Measure("message", "ms", 12.0, 10.5, "straight", Goal(Rule.MORE_AT_MOST, 3), "p99", 100)
OUTCOMES = (
    Outcome("create-warm", "Create, warm", (SLOW,), 1, ("A note.",)),
    Outcome("message", "A message", (QUICK,), 5, ("A note.",)),
    Outcome("memory", "Memory", problem="the engine [dead] | gone"),
)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.123, "0.12 s"), (9.99, "9.99 s"), (12.34, "12.3 s"), (123.4, "123 s"), (17747, "17,747 s"),
     (-12.34, "-12.3 s"), (0, "0.00 s")],
)  # fmt: skip
def test_a_figure_has_as_many_digits_as_it_deserves(value: float, words: str) -> None:
    assert number(value, "s") == words


def test_a_row_tells_both_figures_the_ratio_and_the_goal() -> None:
    assert cells(SLOW) == (
        "create, median of 5", "300 ms", "15.0 ms (unpause)", "20.00 ×", "≤ 250 ms", "NO",
    )  # fmt: skip


def test_where_the_goal_is_a_difference_the_difference_is_shown() -> None:
    assert cells(QUICK)[3:] == ("+1.50 ms", "≤ +3 ms", "yes")


def test_a_figure_without_a_peer_or_a_goal_leaves_its_cells_empty() -> None:
    assert cells(Measure("released", "MB", 0.0))[2:] == ("", "", "", "")


def test_the_table_shows_what_could_not_be_measured_word_for_word() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(table(OUTCOMES))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "not measured: the engine [dead] | gone" in printed
    assert "create, median of 5" in printed


def test_markdown_says_where_and_when_and_each_note_once() -> None:
    written = markdown(OUTCOMES, MACHINE)
    assert written.startswith("Measured 2026-05-04 on 2 × A processor, 24 GiB, ")
    assert written.count("A note.") == 1
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {7}


def test_json_has_the_verdict_and_every_single_value() -> None:
    told = json.loads(json.dumps(as_json(OUTCOMES, MACHINE, {"rounds": None})))
    first, _, last = told["rows"]
    assert first["measures"][0]["is_met"] is False
    assert first["measures"][0]["ratio"] == 20.0
    assert first["measures"][0]["samples"] == {"ours": [299.0, 300.0, 301.0]}
    assert first["warm_up"] == 1
    assert last["problem"] == "the engine [dead] | gone"
    assert told["machine"] == MACHINE
