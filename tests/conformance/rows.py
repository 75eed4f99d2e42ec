"""One test about many rows: all of them are judged, and those that fail are named."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Row = Callable[[object], AbstractContextManager[None]]


@contextmanager
def every_row() -> Iterator[Row]:
    """Gives what takes a row's failure down under its name; fails at the end if there is one."""
    failed: list[str] = []

    @contextmanager
    def row(name: object) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            failed.append(f"{name}: {error}")

    yield row
    assert not failed, "\n".join([f"{len(failed)} rows failed", *failed])
