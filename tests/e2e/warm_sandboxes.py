"""Warm sandboxes of a server's warm pool, and agents whose memory was given back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
from docker.errors import APIError, NotFound

from chowder_local.engine.specs import CPU_SHARES
from tests.e2e.api import Api
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

    from tests.e2e.serving import ServerProcess

WARM_SANDBOX_TIMEOUT_S = 180.0
"""A boot, and a turn after it."""


def hurry(sandbox: Container) -> None:
    """Gives a sandbox that boots as much of the processors as an agent has."""
    try:
        sandbox.update(cpu_shares=CPU_SHARES)
    except APIError as refused:
        # The pool may have begun to remove it since it was listed.
        if "marked for removal" not in str(refused) and not isinstance(refused, NotFound):
            raise


def warm_sandbox_of(pooled: ServerProcess, engine: docker.DockerClient) -> Container:
    """The warm sandbox, once it is ready: the one sandbox that no instance has."""
    url = pooled.base_url.replace("/v1", "/local/health")
    mine = [f"dev.chowder-local.store={pooled.store_id}", "dev.chowder-local.sandbox"]

    def look() -> list[Container]:
        # It boots with what others leave of the processors, and other tests leave nothing.
        booting: dict[str, Any] = {"label": mine, "status": "running"}
        for each in engine.containers.list(filters=booting, ignore_removed=True):
            if each.attrs["HostConfig"]["CpuShares"] < CPU_SHARES:
                hurry(each)
        if httpx.get(url).json()["pool"]["ready"] != 1:
            return []
        with Api(pooled.base_url, pooled.key) as api:
            taken = {row["sandbox_id"] for row in api.get("instances").json()}
        frozen: dict[str, Any] = {"label": mine, "status": "paused"}
        found = engine.containers.list(filters=frozen, ignore_removed=True)
        # Right after a restart a killed one still counts as ready, until the pool looks at it.
        return [each for each in found if each.name not in taken]

    (warm_sandbox,) = eventually(look, "a warm sandbox is ready", WARM_SANDBOX_TIMEOUT_S)
    return warm_sandbox


def made_of(container: Container) -> dict[str, Any]:
    """What the engine was asked for, without what is a container's own."""
    container.reload()
    name = str(container.name)
    asked = {key: container.attrs[key] for key in ("Config", "HostConfig", "Args", "Path")}
    text = json.dumps(asked, sort_keys=True).replace(name, "NAME")
    known: dict[str, Any] = json.loads(text)
    return known


def wait_until_released(api: Api, container: Container, instance_id: str) -> None:
    """Waits until the container of a stopped agent has exited by itself."""

    def has_ended() -> bool:
        container.reload()
        return container.status == "exited"

    eventually(has_ended, "the container has exited")
    assert container.attrs["State"]["ExitCode"] == 0
    assert api.status(instance_id) == "stopped"
