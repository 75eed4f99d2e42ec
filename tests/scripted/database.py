"""An empty store for each test without migrating one for each: they take their time."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from chowder_local.store.schema import prepare


def empty_database(folder: Path) -> Path:
    """A new database file in `folder`, of the newest schema."""
    path = folder / "chowder.db"
    shutil.copyfile(_template(), path)
    return path


@cache
def _template() -> Path:
    path = Path(_folder().name) / "template.db"
    prepare(path)
    return path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Kept, because it is swept away with the object."""
    return tempfile.TemporaryDirectory(prefix="chowder-template-")
