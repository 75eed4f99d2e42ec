"""How much memory the engine's machine has, and has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from chowder_local.core.domain import EngineMemory

if TYPE_CHECKING:
    import docker

SAME_MACHINE = 0.02
"""By how much two readings of one machine's memory may differ."""


def memory_of(client: docker.DockerClient) -> EngineMemory:
    """Asks the engine; blocks."""
    total = int(client.info().get("MemTotal") or 0)
    seen = psutil.virtual_memory()
    # A virtual machine's memory is its own, and only its size is told.
    is_here = abs(seen.total - total) <= SAME_MACHINE * seen.total
    return EngineMemory(total, seen.available if is_here else None)
