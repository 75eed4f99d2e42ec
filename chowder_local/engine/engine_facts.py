"""What the engine says of itself and of the machine it runs on, for a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import DockerException
from requests.exceptions import RequestException

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.self_container import own_container

if TYPE_CHECKING:
    from collections.abc import Mapping

    import docker

    from chowder_local.engine.connection import EngineAddress

TIMEOUT_S = 10.0


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
    address = find_engine(env)
    client = open_client(address, timeout_s=TIMEOUT_S)
    try:
        return facts_of(client, address)
    except (DockerException, RequestException) as failure:
        raise EngineUnavailable(f"The engine does not say how it is: {failure}") from failure
    finally:
        client.close()


def facts_of(client: docker.DockerClient, address: EngineAddress) -> EngineFacts:
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
