"""How the command line prints and ends: lines, tables, JSON, progress, and exit codes."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import contextmanager
from enum import StrEnum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from chowder_local.core.wording import count_of as count_of
from chowder_local.core.wording import progress_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from rich.console import Console

    Column = str | Callable[[Any], str]

USAGE = 2


CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
CONTROLS_BUT_BREAKS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
GAP = "  "
HAS_LETTER = re.compile(r"[^\W\d_]").search


class Output(StrEnum):
    """How a command prints its result."""

    TABLE = auto()
    WIDE = auto()
    """A table with more columns, of which nothing is cut."""
    JSON = auto()


def say(line: str = "") -> None:
    """Prints a line of the result to standard output."""
    click.echo(line)


def note(line: str) -> None:
    """Prints a remark to standard error, where scripts do not read it."""
    click.echo(line, err=True)


def show_json(value: Any) -> None:
    say(json.dumps(value, indent=2, ensure_ascii=False))


def show_result(value: Any, line: str, *, output: Output) -> None:
    """Prints a value for a script, or else a line for a person."""
    if output is Output.JSON:
        show_json(value)
    else:
        say(line)


def show_list(
    items: Sequence[Any],
    columns: Mapping[str, Column],
    *,
    output: Output,
    wide: Mapping[str, Column] = MappingProxyType({}),
    if_empty: str | None = None,
) -> None:
    """Prints a list as JSON for a script, or else as a table, or as a note that it is empty.

    `columns` and `wide`, a wide table's further ones, have a member of the item by their heading,
    or a function of the item.
    """
    if output is Output.JSON:
        show_json(items)
    elif not items and if_empty is not None:
        note(if_empty)
    else:
        is_wide = output is Output.WIDE
        shown = {**columns, **wide} if is_wide else columns
        rows = [[_cell(each, column) for column in shown.values()] for each in items]
        show_table(list(shown), rows, is_cut=not is_wide)


def _cell(item: Any, column: Column) -> str:
    value = item[column] if isinstance(column, str) else column(item)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def format_time(time: str | None, length: int = 16) -> str:
    """A time of the API for people, to the minute; "-" for None."""
    return "-" if time is None else time[:length].replace("T", " ")


def at(member: str) -> Callable[[Mapping[str, Any]], str]:
    """A column with the time of a member."""
    return lambda item: format_time(item[member])


def without_controls(text: str) -> str:
    """A text without control characters, which a terminal would obey; line breaks stay."""
    return CONTROLS_BUT_BREAKS.sub("\ufffd", text)


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, is_cut: bool = True
) -> None:
    """Prints a table for people, each row on one line.

    On a narrow terminal the longest cells are cut if `is_cut`, except those of the first column,
    which identifies the row.
    """
    from rich.cells import cell_len, set_cell_size

    # Names may have control characters, which a terminal would obey.
    table = [[CONTROLS.sub("\ufffd", cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    if is_cut and sys.stdout.isatty():
        columns = enumerate(zip(*table[1:], strict=True))
        with_letters = {number for number, cells in columns if HAS_LETTER("".join(cells))}
        # Numbers and times are useless once they are cut, so their columns shrink last.
        for shrinking in (with_letters, set(range(len(widths)))):
            widths = _shrink(widths, list(map(cell_len, headings)), shrinking - {0})
    for number, row in enumerate(table):
        cells = (
            cell if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"
            for cell, width in zip(row, widths, strict=True)
        )
        line = GAP.join(map(set_cell_size, cells, widths)).rstrip()
        say(click.style(line, bold=True) if number == 0 else line)


def _shrink(
    widths: Sequence[int], minimums: Sequence[int], shrinking: Collection[int]
) -> list[int]:
    """Column widths for the terminal: the widest shrinking column loses width first."""
    available = shutil.get_terminal_size().columns
    result = list(widths)
    for _ in range(sum(result) + len(GAP) * (len(result) - 1) - available):
        candidates = [each for each in shrinking if result[each] > minimums[each]]
        if not candidates:
            break
        result[max(candidates, key=result.__getitem__)] -= 1
    return result


@contextmanager
def waiting(first: str, after_s: float = 0.0) -> Iterator[Callable[[str], None]]:
    """Shows progress on standard error; yields a function to call with each new state.

    On a terminal it is one line with a clock, and states like `[3/9] …` stay. Elsewhere each new
    state is a plain line, but none before `after_s` seconds.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    is_live = console.is_terminal
    lines = _live_line(console, first) if is_live else progress_lines(note, first, after_s)
    with lines as update:
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
