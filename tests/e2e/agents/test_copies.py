"""A real agent, and a fork of its snapshot."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.containers import config_of, container_of
from tests.e2e.copies import ASKED, COLOUR, assert_history, copied, local, read, tell, write
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

OVERRIDES = {"agents.defaults.thinkingDefault": "off"}


@pytest.fixture
def session() -> str:
    """A conversation of the test's own with the agent that is copied."""
    return f"Größe {uuid.uuid4()}"


@pytest.fixture
def original(api: Api, patient: str, session: str) -> str:
    """The agent that is copied, with an override, a file and two conversations."""
    changed = api.patch(f"instances/{patient}", json={"openclaw_config": OVERRIDES})
    assert changed.status_code == 200, changed.text
    tell(api, patient, session)
    return patient


# OpenClaw boots once: as the fork. A restore is proved with quick agents, in test_versions.py.
def test_a_fork_of_a_snapshot_is_what_its_original_was(
    server: ServerProcess, api: Api, original: str, session: str, engine: docker.DockerClient
) -> None:
    api.stop(original)
    body = {"name": "seeded"}
    snapshot = local(api, "POST", f"instances/{original}/snapshots", json=body).json()
    assert api.status(original) == "stopped"
    api.start(original)
    first = api.say(original, ASKED)
    assert f'You said: "{ASKED}" Before that: "{COLOUR}"' in first
    write(api, original, "later")
    fork = copied(api, f"snapshots/{snapshot['id']}/fork", json={"name": "fork"})
    assert api.say(fork, ASKED) == first
    assert_history(api, fork, session)
    write(api, fork, "blue")
    assert read(api, original) == "later"
    configs = [config_of(container_of(engine, api, each)) for each in (original, fork)]
    for config in configs:
        assert config["agents"]["defaults"]["thinkingDefault"] == "off"
    assert configs[0]["gateway"]["auth"] != configs[1]["gateway"]["auth"]
    assert snapshot["id"] in [each["id"] for each in local(api, "GET", "snapshots").json()]
    local(api, "DELETE", f"snapshots/{snapshot['id']}")
    archives = server.data_dir / "snapshots"
    eventually(lambda: not list(archives.glob(f"*{snapshot['id']}*")), "its archive is gone")
    assert api.delete(f"instances/{fork}").status_code == 204
