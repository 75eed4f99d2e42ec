"""How the command line prints and asks: lines, texts, tables, JSON and progress.

All that it writes goes through here, because a terminal obeys what it is sent, and texts are
agents' and other servers': see `chowder_local.core.visible_text`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from codecs import getincrementaldecoder
from contextlib import contextmanager
from enum import StrEnum, auto
from io import StringIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from chowder_local.core.visible_text import visible_line, visible_pieces, visible_text
from chowder_local.core.wording import count_of as count_of
from chowder_local.core.wording import progress_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    Column = str | Callable[[Any], str]

USAGE = 2

GAP = "  "
HAS_LETTER = re.compile(r"[^\W\d_]").search


class Output(StrEnum):
    """How a command prints its result."""

    TABLE = auto()
    WIDE = auto()
    """A table with more columns, of which nothing is cut."""
    JSON = auto()


def say(*lines: str, label: str = "", colour: str | None = None) -> None:
    """Prints lines of the result to standard output, each as one line, after a coloured label."""
    begin = f"{click.style(label, fg=colour)} " if label else ""
    for line in lines or ("",):
        click.echo(begin + visible_line(line))


def say_text(text: str) -> None:
    """Prints a text, which may have several lines, to standard output."""
    click.echo(visible_text(text))


def say_pieces(pieces: Iterable[str]) -> None:
    """Prints a text as it comes."""
    for piece in visible_pieces(pieces):
        click.echo(piece, nl=False)
        sys.stdout.flush()
    click.echo()


def say_bytes(chunks: Iterable[bytes]) -> None:
    """Prints a file: byte for byte, or as a text on a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.writelines(chunks)
        return
    decoder = getincrementaldecoder("utf-8")("replace")
    for piece in visible_pieces(map(decoder.decode, chunks)):
        click.echo(piece, nl=False)


def note(*lines: str) -> None:
    """Prints remarks to standard error, where scripts do not read them, each as one line."""
    for line in lines:
        click.echo(visible_line(line), err=True)


def note_text(text: str) -> None:
    """Prints a remark that may have several lines to standard error."""
    click.echo(visible_text(text), err=True)


def note_usage(refusal: click.ClickException) -> None:
    """Prints what click refuses to standard error."""
    shown = StringIO()
    refusal.show(shown)
    note_text(shown.getvalue().rstrip("\n"))


def agrees(question: str, *, abort: bool = False) -> bool:
    """Asks a person. With `abort`, raises click.Abort if the answer is no."""
    return click.confirm(visible_line(question), abort=abort, err=True)


def ask(question: str, **options: Any) -> str:
    """What a person types."""
    return str(click.prompt(visible_line(question), err=True, **options))


def flush() -> None:
    """Writes what is buffered. Raises BrokenPipeError if nobody reads it any more."""
    sys.stdout.flush()


def discard() -> None:
    """Discards what is still buffered, which Python would write at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_json(value: Any) -> None:
    say_text(json.dumps(value, indent=2, ensure_ascii=False))


def show_result(value: Any, *lines: str, output: Output) -> None:
    """Prints a value for a script, or else lines for a person."""
    if output is Output.JSON:
        show_json(value)
    else:
        say(*lines)


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


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, is_cut: bool = True
) -> None:
    """Prints a table for people, each row on one line.

    On a narrow terminal the longest cells are cut if `is_cut`, except those of the first column,
    which identifies the row.
    """
    from rich.cells import cell_len, set_cell_size

    table = [[visible_line(cell) for cell in row] for row in (headings, *rows)]
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
        click.echo(click.style(line, bold=True) if number == 0 else line)


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
    """Shows progress on standard error; yields a function to call with each new state, one line.

    On a terminal it is one line with a clock, and states like `[3/9] …` stay. Elsewhere each new
    state is a plain line, but none before `after_s` seconds.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    is_live = console.is_terminal
    if is_live:
        lines = _live_line(console, visible_line(first))
    else:
        lines = progress_lines(note, first, after_s)
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
            state = visible_line(state)
            if state.startswith("["):
                progress.console.print(state, markup=False, no_wrap=True, overflow="ellipsis")
            progress.update(task, description=state)

        yield update
