"""A fixture that writes and reads seed files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.seeding.desired_state import Document, read_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Reading = Callable[..., Document]


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    """Writes a seed file and reads it."""

    def read(text: str, env: Mapping[str, str] | None = None, name: str = "seed.yaml") -> Document:
        file = tmp_path / name
        file.write_text(text)
        return read_seed(file, env or {})

    return read
