"""Containers of the benchmarks' own: what marks them, what they use, and how they are removed."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from docker.errors import NotFound

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

LABEL = "dev.chowder-local.benchmark"
NS_PER_S = 1e9
MB = 1e6


def run_label() -> str:
    """Marks what one run makes."""
    return secrets.token_hex(4)


def cpu_s(container: Container) -> float:
    """Processor time that a container has used since it was started."""
    return float(_stats(container)["cpu_stats"]["cpu_usage"]["total_usage"]) / NS_PER_S


def memory_mb(container: Container) -> float:
    """What `docker stats` shows: usage without the page cache that could be dropped at once."""
    stats = _stats(container).get("memory_stats") or {}
    if "usage" not in stats:
        # It does not run.
        return 0.0
    details = stats.get("stats") or {}
    # The first is the name in version 1 of cgroups, where it also counts what is below.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return float(stats["usage"] - cache) / MB


def _stats(container: Container) -> dict[str, Any]:
    stats: Any = container.stats(stream=False, one_shot=True)
    return dict(stats)


def remove(container: Container) -> None:
    """Away with it, and with its anonymous volumes."""
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return


def remove_all(client: docker.DockerClient, run: str | None = None) -> int:
    """Removes the containers that one run left, or all runs; gives how many there were."""
    label = LABEL if run is None else f"{LABEL}={run}"
    found = client.containers.list(all=True, filters={"label": label})
    for container in found:
        remove(container)
    return len(found)


def remove_images(client: docker.DockerClient) -> int:
    """Removes the benchmarks' images; gives how many there were."""
    images = client.images.list(filters={"label": LABEL})
    for image in images:
        client.images.remove(str(image.id), force=True)
    return len(images)
