"""Whether this process runs in a container; imports no SDK, so that quick commands stay quick."""

from __future__ import annotations

from pathlib import Path

MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that Docker and Podman create in each container."""


def is_in_container() -> bool:
    return any(mark.exists() for mark in MARKS)
