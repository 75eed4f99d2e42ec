"""How the command line prints: lines, tables, JSON, and progress."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from rich.console import Console

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
CONTROLS_BUT_BREAKS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
GAP = "  "
HAS_LETTER = re.compile(r"[^\W\d_]").search


def say(line: str = "") -> None:
    """Prints what the command was called for, to standard output."""
    click.echo(line)


def note(line: str) -> None:
    """Prints a remark to standard error, where it is in no script's way."""
    click.echo(line, err=True)


def show_json(value: Any) -> None:
    say(json.dumps(value, indent=2, ensure_ascii=False))


def show_result(value: Any, line: str, *, as_json: bool) -> None:
    """Prints a value for a script, or else a line for a person."""
    if as_json:
        show_json(value)
    else:
        say(line)


def show_list(
    found: Sequence[Any],
    headings: Sequence[str],
    row: Callable[[Any], Sequence[str]],
    *,
    as_json: bool,
    if_empty: str | None = None,
) -> None:
    """Prints a list as JSON for a script, or else as a table, or as a note that it is empty."""
    if as_json:
        show_json(found)
    elif not found and if_empty is not None:
        note(if_empty)
    else:
        show_table(headings, [row(each) for each in found])


def format_time(time: str | None, length: int = 16) -> str:
    """A time of the API for a person, to the minute; "-" for none."""
    return "-" if time is None else time[:length].replace("T", " ")


def without_controls(text: str) -> str:
    """A text of several lines, such that a terminal shows what it would obey; for an agent may
    have written it."""
    return CONTROLS_BUT_BREAKS.sub("\ufffd", text)


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows for a person, each on one line.

    On a terminal that is too narrow the longest texts are cut, but never those of the first
    column, by which a person names the row. Elsewhere nothing is.
    """
    from rich.cells import cell_len, set_cell_size

    # Names may have control characters, which a terminal would obey rather than show.
    shown = [[CONTROLS.sub("\ufffd", cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns
        columns = enumerate(zip(*shown[1:], strict=True))
        with_letters = {number for number, cells in columns if HAS_LETTER("".join(cells))}
        # Figures and times say little once they are cut, so they yield last.
        for yielding in (with_letters, set(range(len(widths)))):
            widths = _fitting(widths, list(map(cell_len, headings)), yielding - {0}, room)
    for number, row in enumerate(shown):
        cells = (
            cell if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"
            for cell, width in zip(row, widths, strict=True)
        )
        line = GAP.join(map(set_cell_size, cells, widths)).rstrip()
        say(click.style(line, bold=True) if number == 0 else line)


def _fitting(
    widths: Sequence[int], least: Sequence[int], yielding: Collection[int], room: int
) -> list[int]:
    """The columns' widths in a room; those that yield do so down to a bound, the widest first."""
    found = list(widths)
    for _ in range(sum(found) + len(GAP) * (len(found) - 1) - room):
        left = [each for each in yielding if found[each] > least[each]]
        if not left:
            break
        found[max(left, key=found.__getitem__)] -= 1
    return found


@contextmanager
def waiting(first: str) -> Iterator[Callable[[str], None]]:
    """Shows what is waited for, while it is: call what you get with each new state.

    On a terminal it is one line with a clock, and lines like `[3/9] …` stay; elsewhere each
    state is a plain line, once.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with _live_line(console, first) if console.is_terminal else _plain_lines(first) as update:
        yield update


@contextmanager
def _live_line(console: Console, first: str) -> Iterator[Callable[[str], None]]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    one_line = Column(no_wrap=True, overflow="ellipsis")
    columns = (
        SpinnerColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False, table_column=one_line),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(first, total=None)

        def update(state: str) -> None:
            if state.startswith("["):
                progress.console.print(state, markup=False, no_wrap=True, overflow="ellipsis")
            progress.update(task, description=state)

        yield update


@contextmanager
def _plain_lines(first: str) -> Iterator[Callable[[str], None]]:
    last = ""

    def update(state: str) -> None:
        nonlocal last
        if state != last:
            last = state
            note(state)

    update(first)
    yield update
