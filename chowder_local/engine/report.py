"""What the engine says of one data directory's containers, for a report, without any secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docker.errors import DockerException
from requests.exceptions import RequestException

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.labels import is_of_store, store_filter

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 10.0
# What is told is listed: what an engine may add some day is not told unasked.
TOLD: Mapping[str, tuple[str, ...]] = {
    "State": (
        "Status", "Running", "Paused", "OOMKilled", "Dead", "ExitCode", "Error", "StartedAt",
        "FinishedAt",
    ),
    "HostConfig": (
        "Memory", "MemorySwap", "NanoCpus", "CpuShares", "PidsLimit", "ReadonlyRootfs", "CapDrop",
        "SecurityOpt", "NetworkMode", "RestartPolicy", "Runtime", "ExtraHosts", "Binds", "Tmpfs",
    ),
    "NetworkSettings": ("Ports",),
    "Config": ("Image", "User", "Labels"),
}  # fmt: skip


def inspect_store(store_id: str, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Its containers as they are. Raises EngineUnavailable and EngineRemote."""
    client = open_client(find_engine(env), timeout_s=TIMEOUT_S)
    try:
        found = client.containers.list(
            all=True, filters=store_filter(store_id), ignore_removed=True
        )
        return [told(each.attrs) for each in found if is_of_store(each.labels, store_id)]
    except (DockerException, RequestException) as failure:
        raise EngineUnavailable(f"The engine does not show the containers: {failure}") from failure
    finally:
        client.close()


def told(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Of what an engine says of a container, what is in the list; of its environment the names."""
    chosen = {
        part: {name: (attrs.get(part) or {}).get(name) for name in names}
        for part, names in TOLD.items()
    }
    environment = (attrs.get("Config") or {}).get("Env") or []
    chosen["Config"]["Env"] = sorted(each.partition("=")[0] for each in environment)
    names = ("Name", "Id", "Image", "Created", "RestartCount")
    return {**{name: attrs.get(name) for name in names}, **chosen}
