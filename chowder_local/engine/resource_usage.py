"""What sandboxes take of memory, processors and the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from chowder_local.core.domain import SandboxId, SandboxUsage
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.container_exec import run_privileged
from chowder_local.engine.specs import HOME

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import docker
    from docker.models.containers import Container

    from chowder_local.engine.owned_resources import OwnedResources


def read_usage(
    client: docker.DockerClient, own: OwnedResources, sandbox_ids: Collection[SandboxId]
) -> dict[SandboxId, SandboxUsage]:
    """What those that are there take of memory and processors; blocks."""
    usage = {}
    for sandbox_id in sandbox_ids:
        if (container := own.find(sandbox_id)) is None:
            continue
        try:
            # One reading; two, which it takes otherwise, are a second apart.
            stats = client.api.stats(str(container.id), stream=False, one_shot=True)
        except APIError:
            # One that is just going stands in no other's way.
            continue
        usage[sandbox_id] = parse_usage(stats, time.monotonic())
    return usage


def parse_usage(stats: Mapping[str, Any], at_s: float) -> SandboxUsage:
    """What a reading says; a sandbox that has just ended has none of its members."""
    memory = stats.get("memory_stats") or {}
    parts = memory.get("stats") or {}
    # Files that the kernel keeps and would give up at once are nobody's need.
    cached = parts.get("inactive_file", parts.get("total_inactive_file", 0))
    cpu = (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
    return SandboxUsage(
        memory_bytes=max(0, int(memory.get("usage") or 0) - int(cached)),
        memory_limit_bytes=int(memory.get("limit") or 0),
        cpu_s=int(cpu.get("total_usage") or 0) / 1e9,
        at_s=at_s,
    )


def disk_bytes(client: docker.DockerClient, container: Container, limit: int) -> int:
    """What a sandbox takes of the disk. Blocking; raises EngineUnavailable."""
    return _measure(client, container, "measure.py", HOME, "/proc", str(limit))


def disk_free_bytes(client: docker.DockerClient, container: Container) -> int:
    """What is left where a sandbox's files are. Blocking; raises EngineUnavailable."""
    return _measure(client, container, "free.py", HOME)


def _measure(
    client: docker.DockerClient, container: Container, program: str, *arguments: str
) -> int:
    is_done, output = run_privileged(client, container, program, *arguments)
    if not is_done or not output.isdecimal():
        reason = (output.splitlines() or ["it does not say why"])[-1]
        raise EngineUnavailable(f"The sandbox {container.name} cannot be measured: {reason}.")
    return int(output)
