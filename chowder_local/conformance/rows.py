"""Tests of many rows, which run all rows and name those that fail."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Row = Callable[[object], AbstractContextManager[None]]


class RowsFailed(AssertionError):
    """Rows of a test failed; `failed` has their names and errors."""

    def __init__(self, failed: list[tuple[str, AssertionError]]) -> None:
        lines = [f"{name}: {error}" for name, error in failed]
        super().__init__("\n".join([f"{len(failed)} rows failed", *lines]))
        self.failed = failed


@contextmanager
def every_row() -> Iterator[Row]:
    """A context manager for each row that records its failure; fails at the end if there is any."""
    failed: list[tuple[str, AssertionError]] = []

    @contextmanager
    def row(name: object) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            failed.append((str(name), error))

    yield row
    if failed:
        raise RowsFailed(failed)
