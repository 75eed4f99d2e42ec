"""The benchmarks' own containers: labels, resource use, and removal."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

LABEL = "dev.chowder-local.benchmark"
NS_PER_S = 1e9
MB = 1e6


def run_label() -> str:
    """The label of everything that a run makes."""
    return secrets.token_hex(4)


def cpu_s(container: Container) -> float:
    """Processor time of a container since its start, in seconds."""
    return float(_stats(container)["cpu_stats"]["cpu_usage"]["total_usage"]) / NS_PER_S


def memory_mb(container: Container) -> float:
    """Memory as in `docker stats`: without page cache that can be dropped at once."""
    stats = _stats(container).get("memory_stats") or {}
    if "usage" not in stats:
        # The container does not run.
        return 0.0
    details = stats.get("stats") or {}
    # The first is the name in cgroups v1, where it includes nested groups.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return float(stats["usage"] - cache) / MB


def _stats(container: Container) -> dict[str, Any]:
    stats: Any = container.stats(stream=False, one_shot=True)
    return dict(stats)


def remove(container: Container) -> None:
    """Removes a container and its anonymous volumes."""
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return


def remove_all(client: docker.DockerClient, run: str | None = None) -> int:
    """Removes the containers of one run or of all runs, and returns their number."""
    label = LABEL if run is None else f"{LABEL}={run}"
    leftovers = client.containers.list(all=True, filters={"label": label})
    for container in leftovers:
        remove(container)
    return len(leftovers)


def remove_images(client: docker.DockerClient) -> int:
    """Removes the benchmarks' images that no other run uses, and returns their number."""
    count = 0
    for image in client.images.list(filters={"label": LABEL}):
        try:
            client.images.remove(str(image.id), force=True)
        except APIError as refused:
            if refused.status_code != HTTPStatus.CONFLICT:
                raise
            continue
        count += 1
    return count
