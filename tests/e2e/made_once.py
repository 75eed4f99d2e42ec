"""What takes long to make and is the same for all runs on a machine: packages, generated code."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from filelock import FileLock
from platformdirs import user_cache_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def made_once(name: str, make: Callable[[Path], None], *inputs: bytes | str) -> Path:
    """A folder that `make` has filled once for these inputs, whichever run did so."""
    digest = hashlib.sha256()
    for each in inputs:
        content = each.encode() if isinstance(each, str) else each
        digest.update(f"{len(content)} ".encode() + content)
    place = user_cache_path("chowder-local-tests") / f"{name}-{digest.hexdigest()[:16]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    # What broke off has no stamp.
    stamp = place / ".made"
    with FileLock(f"{place}.lock"):
        if not stamp.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            stamp.touch()
    return place
