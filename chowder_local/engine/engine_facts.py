"""Facts about the engine and its machine, and what sandboxes use of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
from docker.errors import APIError

from chowder_local.core.domain import EngineMemory, SandboxId, SandboxUsage
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine import labels
from chowder_local.engine.connection import engine_client
from chowder_local.engine.container_exec import last_line, run_privileged
from chowder_local.engine.images import KINDS
from chowder_local.engine.images import LABEL as IMAGE_LABEL
from chowder_local.engine.self_container import is_in_container, own_container
from chowder_local.engine.specs import HOME

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import docker
    from docker.models.containers import Container

    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.containers import OwnedResources

TIMEOUT_S = 10.0
DISK_TIMEOUT_S = 300.0
"""The engine reads every file of every volume for it."""
SAME_MACHINE = 0.02
"""How much two readings of one machine's memory may differ, as a fraction."""


@dataclass(frozen=True)
class EngineFacts:
    """A reachable engine; `root_dir` is a path on its own machine, which may be a virtual one."""

    address: EngineAddress
    version: str
    api_version: str
    system: str
    memory_bytes: int
    cpu_count: int
    root_dir: str
    has_memory_limit: bool
    has_pids_limit: bool
    runtimes: tuple[str, ...] = ()
    """The names of the runtimes that it can run containers under."""
    own_container: str | None = None
    """The id of the container that this process runs in, if that engine runs it."""


def ask_engine(env: Mapping[str, str]) -> EngineFacts:
    """The facts of the engine that `find_engine` finds. Raises as `engine_client` does."""
    refusal = "The engine could not report its state"
    with engine_client(env, refusal, TIMEOUT_S) as (client, address):
        return read_facts(client, address)


@dataclass(frozen=True)
class DiskUse:
    """What chowder-local takes on the engine's disk, in bytes.

    `sandboxes` are the volumes of one data directory by the sandbox's id, `other_stores` those of
    other data directories together. `build_cache` is the engine's whole cache; None if it has none.
    """

    sandboxes: dict[str, int]
    other_stores: int
    removable_images: dict[str, int]
    base_images: dict[str, int]
    build_cache: int | None


def ask_disk_use(env: Mapping[str, str], store_id: str) -> DiskUse:
    """Measures volumes and images, which takes seconds. Raises as `engine_client` does."""
    refusal = "The engine could not measure its disk"
    with engine_client(env, refusal, DISK_TIMEOUT_S) as (client, _):
        found = client.df()
    sandboxes: dict[str, int] = {}
    other_stores = 0
    for volume in found.get("Volumes") or ():
        size = max(0, (volume.get("UsageData") or {}).get("Size", 0))
        if labels.is_of_store(volume.get("Labels"), store_id):
            sandboxes[labels.sandbox_of(volume["Labels"]) or volume["Name"]] = size
        elif labels.STORE in (volume.get("Labels") or {}):
            other_stores += size
    removable: dict[str, int] = {}
    bases: dict[str, int] = {}
    for image in found.get("Images") or ():
        if kind := (image.get("Labels") or {}).get(IMAGE_LABEL):
            name = (image.get("RepoTags") or [image["Id"]])[0]
            (removable if kind in KINDS else bases)[name] = image["Size"]
    cache = found.get("BuildCache")
    return DiskUse(
        sandboxes,
        other_stores,
        removable,
        bases,
        # Shared records are layers of images.
        None if cache is None else sum(each["Size"] for each in cache if not each.get("Shared")),
    )


def check_own_container(env: Mapping[str, str]) -> None:
    """Raises EngineUnavailable if this process is in a container that the engine does not run."""
    if is_in_container():
        with engine_client(env, "The engine could not inspect this container") as (client, _):
            own_container(client)


def read_facts(client: docker.DockerClient, address: EngineAddress) -> EngineFacts:
    """The facts of a connected engine. Blocks."""
    info = client.info()
    return EngineFacts(
        address=address,
        version=str(info.get("ServerVersion") or "unknown"),
        api_version=str(client.api.api_version),
        system=str(info.get("OperatingSystem") or "unknown"),
        memory_bytes=int(info.get("MemTotal") or 0),
        cpu_count=int(info.get("NCPU") or 0),
        root_dir=str(info.get("DockerRootDir") or ""),
        # Podman has both limits, but does not report them.
        has_memory_limit=bool(info.get("MemoryLimit", True)),
        has_pids_limit=bool(info.get("PidsLimit", True)),
        runtimes=tuple(info.get("Runtimes") or ()),
        own_container=own_container(client),
    )


def read_memory(client: docker.DockerClient) -> EngineMemory:
    """The memory of the engine's machine, and how much of it is available. Blocks."""
    total = int(client.info().get("MemTotal") or 0)
    local = psutil.virtual_memory()
    # The engine reports only the size of a virtual machine's memory.
    is_here = abs(local.total - total) <= SAME_MACHINE * local.total
    return EngineMemory(total, local.available if is_here else None)


def read_usage(
    client: docker.DockerClient, own: OwnedResources, sandbox_ids: Collection[SandboxId]
) -> dict[SandboxId, SandboxUsage]:
    """Memory and processor usage of the sandboxes, without those that are gone. Blocks."""
    usage = {}
    for sandbox_id in sandbox_ids:
        if (container := own.find(sandbox_id)) is None:
            continue
        try:
            # Without `one_shot`, the engine takes two readings, a second apart.
            stats = client.api.stats(str(container.id), stream=False, one_shot=True)
        except APIError:
            # A container that is being removed must not fail the others.
            continue
        usage[sandbox_id] = parse_usage(stats, time.monotonic())
    return usage


def parse_usage(stats: Mapping[str, Any], at_s: float) -> SandboxUsage:
    """Parses a reading, whose members are missing if the sandbox has just ended."""
    memory = stats.get("memory_stats") or {}
    parts = memory.get("stats") or {}
    # The kernel frees cached files on demand, so they do not count.
    cached = parts.get("inactive_file", parts.get("total_inactive_file", 0))
    cpu = (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
    return SandboxUsage(
        memory_bytes=max(0, int(memory.get("usage") or 0) - int(cached)),
        memory_limit_bytes=int(memory.get("limit") or 0),
        cpu_s=int(cpu.get("total_usage") or 0) / 1e9,
        at_s=at_s,
    )


def disk_bytes(client: docker.DockerClient, container: Container, limit: int) -> int:
    """A sandbox's disk usage in bytes, up to `limit`. Blocks; raises EngineUnavailable."""
    _, output = run_privileged(client, container, "measure.py", HOME, "/proc", str(limit))
    return parse_measure(str(container.name), output)


def parse_measure(sandbox_id: str, output: str) -> int:
    """The bytes that a measuring program prints. Raises EngineUnavailable if it has failed."""
    output = output.strip()
    if not output.isdecimal():
        raise EngineUnavailable(
            f"The disk of sandbox {sandbox_id} cannot be measured: {last_line(output)}."
        )
    return int(output)
