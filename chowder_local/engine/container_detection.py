"""Whether this process is in a container, as engines leave it to be seen."""

from __future__ import annotations

from pathlib import Path

MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""What Docker and Podman put into each container."""


def is_in_container() -> bool:
    """Whether it is, in one of whatever engine."""
    return any(mark.exists() for mark in MARKS)
