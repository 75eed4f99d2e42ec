"""What Docker does not do on demand: a sandbox that is not frozen at the first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import requests
from docker.errors import APIError

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.containers import PAUSE_ATTEMPTS
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.labels import sandbox_labels
from chowder_local.engine.threads import Threads

if TYPE_CHECKING:
    import docker

STORE_ID, SANDBOX_ID = "store", SandboxId("chowder-1")


class Restless:
    """A container whose first pauses fail with a status."""

    labels = sandbox_labels(STORE_ID, SANDBOX_ID)

    def __init__(self, failures: int, status: int) -> None:
        self._failures = failures
        self._status = status
        self.pauses = 0

    def pause(self) -> None:
        self.pauses += 1
        if self.pauses <= self._failures:
            response = requests.Response()
            response.status_code = self._status
            raise APIError("no", response, "OCI runtime pause failed: unable to freeze: unknown")


async def pause(container: Restless) -> None:
    client = SimpleNamespace(containers=SimpleNamespace(get=lambda _: container))
    with Threads(1, "engine") as threads:
        address = EngineAddress("unix:///nowhere", "a test")
        engine = DockerEngine(cast("docker.DockerClient", client), address, threads, STORE_ID, 5.0)
        await engine.pause(SANDBOX_ID)


async def test_a_sandbox_that_is_too_busy_to_be_frozen_is_tried_again() -> None:
    container = Restless(PAUSE_ATTEMPTS - 1, 500)
    await pause(container)
    assert container.pauses == PAUSE_ATTEMPTS


@pytest.mark.parametrize(("status", "pauses"), [(500, PAUSE_ATTEMPTS), (409, 1)])
async def test_a_sandbox_that_cannot_be_paused_is_told_in_the_engines_words(
    status: int, pauses: int
) -> None:
    container = Restless(PAUSE_ATTEMPTS, status)
    with pytest.raises(EngineUnavailable, match="unable to freeze"):
        await pause(container)
    assert container.pauses == pauses
