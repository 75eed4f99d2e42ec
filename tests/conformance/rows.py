"""Tests of many rows, which run all rows and name those that fail."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Row = Callable[[object], AbstractContextManager[None]]


@contextmanager
def every_row() -> Iterator[Row]:
    """A context manager for each row that records its failure; fails at the end if there is any."""
    failed: list[str] = []

    @contextmanager
    def row(name: object) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            failed.append(f"{name}: {error}")

    yield row
    assert not failed, "\n".join([f"{len(failed)} rows failed", *failed])
