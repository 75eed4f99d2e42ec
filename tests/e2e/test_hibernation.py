"""Agents of real OpenClaw that leave memory while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.api import Api
from tests.e2e.containers import config_of, container_of
from tests.e2e.copies import assert_history, local, read, tell
from tests.e2e.serving import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.warm_sandboxes import warm_sandbox_of
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SETTINGS = {
    "CHOWDER_HIBERNATE_AFTER_S": "8",
    "CHOWDER_RECONCILE_INTERVAL_S": "1",
    "CHOWDER_WARM_POOL_SIZE": "1",
}
OVERRIDES = {"agents.defaults.thinkingDefault": "off"}
JOB = {
    "name": "each morning",
    "enabled": True,
    "schedule": {"kind": "cron", "expr": "0 9 * * *"},
    "sessionTarget": "isolated",
    "wakeMode": "now",
    "payload": {"kind": "agentTurn", "message": "Good morning."},
}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server of these tests' own, because others' agents must not leave memory."""
    server = ServerProcess(tmp_path_factory.mktemp("hibernation") / "data", SETTINGS)
    with served(server, engine, request.config):
        yield server


# OpenClaw boots three times: for two agents, and for the warm sandbox that one comes back in.
def test_an_idle_agent_leaves_memory_and_its_next_message_finds_all_it_had(
    server: ServerProcess, engine: docker.DockerClient
) -> None:
    with Api(server.base_url, server.key) as api:
        with_a_job = api.created("with a job")
        idle = api.created("idle", openclaw_config=OVERRIDES)
        api.until(with_a_job, "running")
        # Before it is idle for long enough, and it is asked what it has to go on with.
        assert_called(api, with_a_job, "cron.add", JOB)
        api.until(idle, "running")
        tell(api, idle, "errands")
        former = container_of(engine, api, idle)

        def is_hibernated() -> bool:
            return bool(local(api, "GET", f"instances/{idle}").json()["is_hibernated"])

        eventually(is_hibernated, "the idle agent hibernates")
        assert api.status(idle) == "running"
        eventually(lambda: has_ended(engine, str(former.id)), "its container has ended")
        # The older one was looked at before it.
        kept = local(api, "GET", f"instances/{with_a_job}").json()
        assert (kept["status"], kept["is_hibernated"]) == ("running", False)

        spare = warm_sandbox_of(server, engine)
        assert_history(api, idle, "errands")
        assert container_of(engine, api, idle).id == spare.id
        assert read(api, idle) == "teal"
        assert config_of(spare)["agents"]["defaults"]["thinkingDefault"] == "off"
        assert str(former.name) not in {str(each.name) for each in engine.volumes.list()}
        for agent in (with_a_job, idle):
            assert api.delete(f"instances/{agent}").status_code == 204


def has_ended(engine: docker.DockerClient, container_id: str) -> bool:
    (found,) = engine.containers.list(all=True, filters={"id": container_id})
    return found.status == "exited"


def assert_called(api: Api, instance_id: str, method: str, params: dict[str, Any]) -> None:
    """Makes a control call to an agent's gateway, as OpenClaw's own programs do."""
    gateway = local(api, "GET", f"instances/{instance_id}/gateway").json()
    answer = httpx.post(
        f"{gateway['gateway_url']}/api/v1/admin/rpc",
        json={"method": method, "params": params},
        headers={"Authorization": f"Bearer {gateway['token']}"},
    )
    assert answer.json()["ok"], answer.text
