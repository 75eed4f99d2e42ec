"""Taking away everything that one data directory has on the engine, and nothing else."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound
from requests.exceptions import RequestException

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.labels import is_of_store, store_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import docker

log = logging.getLogger(__name__)
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class SweepReport:
    """The names of what was removed."""

    containers: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def remove_store(store_id: str, env: Mapping[str, str]) -> SweepReport:
    """Removes each container, volume and network that bears the store's label.

    Raises EngineUnavailable, also when something does not go away; a second call
    goes on from there.
    """
    client = open_client(find_engine(env), timeout_s=TIMEOUT_S)
    try:
        return sweep(client, store_id)
    except (APIError, RequestException) as failure:
        raise EngineUnavailable(
            f"The engine does not remove what this data directory has on it: {failure}"
        ) from failure
    finally:
        client.close()


def sweep(client: docker.DockerClient, store_id: str) -> SweepReport:
    """The same by a client that is open; raises what that does. Blocking."""
    if not store_id:
        raise ValueError("an empty store id would match what is not ours")
    filters = store_filter(store_id)
    containers = [
        container.name
        for container in client.containers.list(all=True, filters=filters, ignore_removed=True)
        if is_of_store(container.labels, store_id)
        and _is_gone(partial(container.remove, force=True, v=True))
    ]
    volumes = [
        volume.name
        for volume in client.volumes.list(filters=filters)
        if is_of_store(volume.attrs.get("Labels"), store_id)
        and _is_gone(partial(volume.remove, force=True))
    ]
    networks = [
        network.name
        for network in client.networks.list(filters=filters)
        if is_of_store(network.attrs.get("Labels"), store_id) and _is_gone(network.remove)
    ]
    report = SweepReport(*(tuple(map(str, names)) for names in (containers, volumes, networks)))
    log.info("store %s swept: %s", store_id, report)
    return report


def _is_gone(remove: Callable[[], object]) -> bool:
    """Whether this call removed it; False when somebody else was faster."""
    try:
        remove()
    except NotFound:
        return False
    return True
