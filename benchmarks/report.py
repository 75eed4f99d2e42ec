"""Renders results as a table for a terminal, Markdown for the documentation, and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from benchmarks.results import Measure, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.results import Goal, Outcome

HEADINGS = ("what", "ours", "compared with", "ratio", "goal", "met")


def number(value: float, unit: str) -> str:
    """A figure with significant digits and its unit."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def describe_goal(goal: Goal, unit: str) -> str:
    """A goal in the notation of the design's table."""
    bound = f"{goal.bound:g}"
    return {
        Rule.AT_MOST: f"≤ {bound} {unit}",
        Rule.RATIO_AT_MOST: f"≤ {bound} ×",
        Rule.RATIO_AT_LEAST: f"≥ {bound} ×",
        Rule.MORE_AT_MOST: f"≤ +{bound} {unit}",
    }[goal.rule]


def cells(measure: Measure) -> tuple[str, ...]:
    """The cells of a measure, in the order of HEADINGS."""
    peer = "" if measure.peer is None else number(measure.peer, measure.unit)
    named = f"{peer} ({measure.peer_name})" if measure.peer_name else peer
    met = {None: "", True: "yes", False: "NO"}[measure.is_met]
    return (
        f"{measure.what}, {measure.statistic} of {measure.rounds}",
        number(measure.ours, measure.unit),
        named,
        _relation(measure),
        "" if measure.goal is None else describe_goal(measure.goal, measure.unit),
        met,
    )


def table(outcomes: Sequence[Outcome]) -> Table:
    """A table for a terminal."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        made.add_column(heading, overflow="fold")
    for outcome in outcomes:
        made.add_row(Text(outcome.name, style="bold"), *[""] * (len(HEADINGS) - 1))
        for row in _rows(outcome):
            style = "red" if row[-1] == "NO" else ""
            made.add_row(*(Text(cell, style=style) for cell in row))
    return made


def markdown(outcomes: Sequence[Outcome], machine: Mapping[str, Any]) -> str:
    """Markdown for docs/explanation/benchmarks.md: the machine, the date and the table."""
    lines = [f"Measured {describe(machine)}.", "", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
    for outcome in outcomes:
        lines.append(_line([f"**{outcome.title}**", *[""] * (len(HEADINGS) - 1)]))
        lines.extend(_line(row) for row in _rows(outcome))
    notes = [note for outcome in outcomes for note in outcome.notes]
    return "\n".join([*lines, "", *(f"- {note}" for note in dict.fromkeys(notes))]) + "\n"


def as_json(
    outcomes: Sequence[Outcome], machine: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """All results, including single values."""
    return {
        "machine": dict(machine),
        "options": dict(options),
        "rows": [
            {
                "name": outcome.name,
                "title": outcome.title,
                "problem": outcome.problem,
                "warm_up": outcome.warm_up,
                "notes": list(outcome.notes),
                "measures": [
                    asdict(measure)
                    | {
                        "ratio": measure.ratio,
                        "difference": measure.difference,
                        "is_met": measure.is_met,
                    }
                    for measure in outcome.measures
                ],
            }
            for outcome in outcomes
        ],
    }


def describe(machine: Mapping[str, Any]) -> str:
    """The machine and the date in one line."""
    return (
        f"{machine['date']} on {machine['cpu_count']} × {machine['cpu_model']}, "
        f"{machine['memory_gib']} GiB, {machine['kernel']}, "
        f"{machine['engine']}, OpenClaw {machine['openclaw']}, chowder-local {machine['version']}"
    )


def _relation(measure: Measure) -> str:
    if measure.goal is not None and measure.goal.rule is Rule.MORE_AT_MOST:
        more = measure.difference
        return "" if more is None else f"{'+' if more >= 0 else ''}{number(more, measure.unit)}"
    return "" if measure.ratio is None else f"{measure.ratio:.2f} ×"


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for measure in outcome.measures:
        yield cells(measure)
    if outcome.problem is not None:
        yield (f"not measured: {outcome.problem}", *[""] * (len(HEADINGS) - 1))


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
