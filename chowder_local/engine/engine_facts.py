"""What the engine says of itself and of the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from chowder_local.core.domain import EngineMemory
from chowder_local.engine.connection import engine_client
from chowder_local.engine.container_detection import is_in_container
from chowder_local.engine.self_container import own_container

if TYPE_CHECKING:
    from collections.abc import Mapping

    import docker

    from chowder_local.engine.connection import EngineAddress

TIMEOUT_S = 10.0
SAME_MACHINE = 0.02
"""By how much two readings of one machine's memory may differ."""


@dataclass(frozen=True)
class EngineFacts:
    """An engine that answers; `root_dir` is on its own machine, which may be a virtual one."""

    address: EngineAddress
    version: str
    api_version: str
    system: str
    memory_bytes: int
    cpu_count: int
    root_dir: str
    has_memory_limit: bool
    has_pids_limit: bool
    own_container: str | None = None
    """The container that we are in ourselves, if that engine runs it."""


def ask_engine(env: Mapping[str, str]) -> EngineFacts:
    """The facts of the engine that is found. Raises EngineUnavailable and EngineRemote."""
    with engine_client(env, "The engine does not say how it is", TIMEOUT_S) as (client, address):
        return read_facts(client, address)


def check_own_container(env: Mapping[str, str]) -> None:
    """Raises EngineUnavailable where `own_container` would, before anything is done there."""
    if is_in_container():
        with engine_client(env, "The engine does not show this server's container") as (client, _):
            own_container(client)


def read_facts(client: docker.DockerClient, address: EngineAddress) -> EngineFacts:
    """Asks an engine that is connected; blocks."""
    info = client.info()
    return EngineFacts(
        address=address,
        version=str(info.get("ServerVersion") or "unknown"),
        api_version=str(client.api.api_version),
        system=str(info.get("OperatingSystem") or "unknown"),
        memory_bytes=int(info.get("MemTotal") or 0),
        cpu_count=int(info.get("NCPU") or 0),
        root_dir=str(info.get("DockerRootDir") or ""),
        # Podman leaves these out, and has both.
        has_memory_limit=bool(info.get("MemoryLimit", True)),
        has_pids_limit=bool(info.get("PidsLimit", True)),
        own_container=own_container(client),
    )


def read_memory(client: docker.DockerClient) -> EngineMemory:
    """How much memory the engine's machine has, and has left; blocks."""
    total = int(client.info().get("MemTotal") or 0)
    seen = psutil.virtual_memory()
    # A virtual machine's memory is its own, and only its size is told.
    is_here = abs(seen.total - total) <= SAME_MACHINE * seen.total
    return EngineMemory(total, seen.available if is_here else None)
