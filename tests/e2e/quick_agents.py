"""Agents of the quick image, and whether they and their server are well."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
from docker.errors import DockerException

from tests.e2e.containers import containers, inside
from tests.e2e.quick_image import quick_image
from tests.e2e.serving import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import docker
    import pytest
    from docker.models.containers import Container

    from tests.e2e.api import Api

FIRST = "My cat is called Schnurri."
HELD = {"agents.defaults.timeoutSeconds": 1234}
"""With this configuration a quick agent boots until `let_go`."""
RELEASE = "touch /data/go"
"""In a sandbox that is held: starts its gateway."""


@contextmanager
def open_quick_server(
    folder: Path,
    engine: docker.DockerClient,
    config: pytest.Config,
    settings: Mapping[str, str] | None = None,
    **gateway_env: str,
) -> Iterator[ServerProcess]:
    """A server with the quick image; both are removed at the end."""
    with quick_image(engine, **gateway_env) as image:
        own = {"CHOWDER_IMAGE": image, "CHOWDER_OFFLINE": "true"}
        server = ServerProcess(folder / "data", own | dict(settings or {}))
        with served(server, engine, config):
            yield server


def made(api: Api) -> str:
    instance_id = api.created("quick")
    api.until(instance_id, "running")
    assert api.say(instance_id, FIRST) == f"Turn 1. First: {FIRST}"
    return instance_id


def let_go(
    api: Api, server: ServerProcess, engine: docker.DockerClient, instance_id: str
) -> dict[str, Any]:
    """Lets the boots of held agents end, and gives this one once it runs."""

    def running() -> dict[str, Any] | None:
        # Which one is its own is told only once it runs.
        for container in containers(engine, server.store_id):
            with suppress(DockerException):
                inside(container, RELEASE)
        found: dict[str, Any] = api.get(f"instances/{instance_id}").json()
        return found if found["status"] == "running" else None

    return eventually(running, f"{instance_id} is running")


def until_it_waits(container: Container) -> None:
    """Until a quick agent has begun with a turn that never ends."""
    eventually(lambda: b"waiting" in container.logs(), "it waits")


def health(server: ServerProcess) -> dict[str, Any]:
    report: dict[str, Any] = httpx.get(f"http://127.0.0.1:{server.port}/local/health").json()
    return report


def degraded(server: ServerProcess) -> dict[str, Any]:
    """The server's report as soon as it misses something; it asks the engine once a second."""

    def report() -> dict[str, Any] | None:
        found = health(server)
        return found if found["status"] == "degraded" else None

    return eventually(report, "something is missed")


def is_well(server: ServerProcess) -> None:
    """Waits until the server has heard its engine again."""
    eventually(lambda: health(server)["status"] == "ok", "all is well")


def remembers(api: Api, instance_id: str) -> None:
    """Waits until an agent talks; fails if it is not the one that was told the first words."""

    def answered() -> str | None:
        answer = api.message(instance_id, "Are you there?")
        return answer.text if answer.is_success else None

    assert FIRST in eventually(answered, f"{instance_id} answers")
