"""The service that a run judges, and tests of many rows that name those that fail."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

BASE_URL, KEY, TARGET = "CONFORMANCE_BASE_URL", "CONFORMANCE_KEY", "CONFORMANCE_TARGET"
READ_ONLY = "read_only"
OPTIONAL = ("costs", "stays", "slow")
"""Markers of tests that may be left out."""


class Target(StrEnum):
    """What a run judges: which side of the differences it expects."""

    HOSTED = "hosted"
    LOCAL = "local"


@dataclass(frozen=True)
class Service:
    """A service to judge. The key is of an organization."""

    base_url: str
    key: str = field(repr=False)
    target: Target


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
