"""Reports or removes everything that one data directory has on the engine."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from docker.errors import NotFound

from chowder_local.engine.connection import engine_client
from chowder_local.engine.labels import is_of_store, store_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import docker

log = logging.getLogger(__name__)

INSPECT_TIMEOUT_S = 10.0
REMOVE_TIMEOUT_S = 60.0

# An allowlist, so that a report never has what future engines add.
REPORTED_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
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


@dataclass(frozen=True)
class SweepReport:
    """The names of a store's resources: of those that are there, or were removed."""

    containers: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def inspect_store(store_id: str, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """The state of the store's containers, without secrets. Raises as `engine_client` does."""
    refusal = "The engine could not list the containers"
    with engine_client(env, refusal, INSPECT_TIMEOUT_S) as (client, _):
        containers = client.containers.list(
            all=True, filters=store_filter(store_id), ignore_removed=True
        )
        return [redacted(each.attrs) for each in containers if is_of_store(each.labels, store_id)]


def read_logs(store_id: str, env: Mapping[str, str], lines: int) -> dict[str, str]:
    """The last lines of each of the store's containers by its name. Raises as `engine_client`."""
    refusal = "The engine could not read the agents' logs"
    with engine_client(env, refusal, INSPECT_TIMEOUT_S) as (client, _):
        containers = client.containers.list(
            all=True, filters=store_filter(store_id), ignore_removed=True
        )
        return {
            str(each.name): each.logs(tail=lines).decode(errors="replace")
            for each in containers
            if is_of_store(each.labels, store_id)
        }


def redacted(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """A container's reported attributes, with the names but not the values of its environment."""
    parts = {
        part: {name: (attrs.get(part) or {}).get(name) for name in names}
        for part, names in REPORTED_ATTRIBUTES.items()
    }
    environment = (attrs.get("Config") or {}).get("Env") or []
    parts["Config"]["Env"] = sorted(each.partition("=")[0] for each in environment)
    names = ("Name", "Id", "Image", "Created", "RestartCount")
    return {**{name: attrs.get(name) for name in names}, **parts}


def list_store(store_id: str, env: Mapping[str, str]) -> SweepReport:
    """What bears the store's label. Raises as `engine_client` does."""
    refusal = "The engine could not list what this data directory has"
    with engine_client(env, refusal, INSPECT_TIMEOUT_S) as (client, _):
        found = _resources(client, store_id)
        return SweepReport(*(tuple(str(each.name) for each in kind) for kind in found))


def remove_store(store_id: str, env: Mapping[str, str]) -> SweepReport:
    """Removes each container, volume and network that bears the store's label.

    Raises EngineUnavailable if a removal fails; another call continues from there.
    """
    refusal = "The engine could not remove this data directory's resources"
    with engine_client(env, refusal, REMOVE_TIMEOUT_S) as (client, _):
        return sweep(client, store_id)


def sweep(client: docker.DockerClient, store_id: str) -> SweepReport:
    """As `remove_store`, with an open client. Blocks; raises the SDK's errors."""
    if not store_id:
        raise ValueError("an empty store id would match resources of other programs")
    removals: tuple[Callable[[Any], object], ...] = (
        lambda container: container.remove(force=True, v=True),
        lambda volume: volume.remove(force=True),
        lambda network: network.remove(),
    )
    report = SweepReport(
        *(
            tuple(str(each.name) for each in found if _has_removed(partial(remove, each)))
            for found, remove in zip(_resources(client, store_id), removals, strict=True)
        )
    )
    log.info("store %s swept: %s", store_id, report)
    return report


def _resources(client: docker.DockerClient, store_id: str) -> Iterator[list[Any]]:
    """The store's containers, then its volumes, then its networks."""
    filters = store_filter(store_id)
    containers = client.containers.list(all=True, filters=filters, ignore_removed=True)
    yield [each for each in containers if is_of_store(each.labels, store_id)]
    for others in (client.volumes, client.networks):
        listed = others.list(filters=filters)
        yield [each for each in listed if is_of_store(each.attrs.get("Labels"), store_id)]


def _has_removed(remove: Callable[[], object]) -> bool:
    """Whether this call removed the resource; False if it was already gone."""
    try:
        remove()
    except NotFound:
        return False
    return True
