"""How the command line speaks: words, tables, JSON, and what is waited for."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console


def say(words: str = "") -> None:
    """A line that the command was called for, to standard output."""
    click.echo(words)


def note(words: str) -> None:
    """A line beside that, to standard error, where it is in no script's way."""
    click.echo(words, err=True)


def show_json(value: Any) -> None:
    """A value for a script."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows for a person. Where nobody looks they are not cut to a terminal's width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Names are anybody's words: brackets in them are no markup.
        table.add_row(*map(Text, row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 250)
    console.print(table)


@contextmanager
def waiting(first: str) -> Iterator[Callable[[str], None]]:
    """Shows what is waited for, while it is: call what you get with each new state of affairs.

    On a terminal it is one line with a clock, and lines like `[3/9] …` stay; elsewhere each
    state is a plain line, once.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with (_live_line if console.is_terminal else _plain_lines)(console, first) as update:
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

        def update(words: str) -> None:
            if words.startswith("["):
                progress.console.print(words, markup=False, no_wrap=True, overflow="ellipsis")
            progress.update(task, description=words)

        yield update


@contextmanager
def _plain_lines(console: Console, first: str) -> Iterator[Callable[[str], None]]:
    last = ""

    def update(words: str) -> None:
        nonlocal last
        if words != last:
            last = words
            console.print(words, markup=False, soft_wrap=True)

    update(first)
    yield update
