"""Measures the memory, processor time and disk space that sandboxes use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from chowder_local.core.domain import SandboxId, SandboxUsage
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.container_exec import last_line, run_privileged
from chowder_local.engine.specs import HOME

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import docker
    from docker.models.containers import Container

    from chowder_local.engine.owned_resources import OwnedResources


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
