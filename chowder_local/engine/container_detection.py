"""Whether this process is in a container; apart from what loads the SDK, for quick commands."""

from __future__ import annotations

from pathlib import Path

MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""What Docker and Podman put into each container."""


def is_in_container() -> bool:
    return any(mark.exists() for mark in MARKS)
