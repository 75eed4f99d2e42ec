"""Whether this process runs in a container; imports no SDK, so that quick commands stay quick."""

from __future__ import annotations

import os
from pathlib import Path

MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that Docker and Podman create in each container."""


def is_in_container() -> bool:
    return any(mark.exists() for mark in MARKS)


def process_namespace() -> str:
    """Identifies the processes among which a process id is unique; empty if the system has one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
