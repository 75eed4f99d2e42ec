"""Data directories that former releases wrote, opened by this one.

`0.1.0.tar.gz` is from a server of that release with OpenClaw's offline model and made-up keys: an
agent that has been written to, a snapshot without OpenClaw's databases, and a second organization.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceId, OrganizationId, SandboxState
from chowder_local.core.settings import FORMER_NAMES, Settings
from tests.api.conftest import Api, app_of, open_client
from tests.scripted.database import Kitchen
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DATA_DIRS = Path(__file__).parent / "data_dirs"
ORGANIZATION = OrganizationId("eb784c42-fdfd-4cb7-a567-5dc5a5c7e1fd")
OTHER_KEY = "chd_org_rZdqnwBXUztqxp2JrI3bd3urP1crVPhIX7wPKVcOWZk"
SCOPED_KEY = "chd_sk_NUENF_qOXojZo_Sf8aN2huIivxqLgUOHhs2apWcC18I"
REVOKED_KEY = "chd_sk_Cq4PwypXUgXGsgA0JNfZj_J3uHyTe4rC8FCI3WdtKQU"
AGENT = InstanceId("47c1b642-6dc6-4466-955c-944e2a6c7790")
SNAPSHOT = "1f0f633f-8d81-4edc-a520-c55b296851a8"
SETTINGS = """
    host port public_url data_dir key_file offline tier image base_image ca_bundle egress
    memory_limit_mb cpu_limit pids_limit disk_limit_mb disk_interval_s boot_timeout_s
    boot_concurrency warm_pool_size freeze_after_s max_running paused_ttl_s drain_timeout_s
    stop_grace_s reconcile_interval_s engine_timeout_s engine_threads
    model_first_byte_timeout_s model_idle_timeout_s compaction_timeout_s anthropic_base_url
    openai_base_url gemini_base_url providers provider_context_tokens clawhub_url
    max_body_bytes transfer_idle_timeout_s replies record replay cors_origins allowed_hosts
    log_level log_format
"""
CONFIG = {"agents": {"defaults": {"timeoutSeconds": 321}}}


@pytest.fixture
async def former(tmp_path: Path) -> AsyncIterator[Api]:
    """The API on a data directory of 0.1.0, whose agent still runs."""
    with tarfile.open(DATA_DIRS / "0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    kitchen = Kitchen(
        tmp_path / "chowder.db",
        ORGANIZATION,
        (tmp_path / "default.key").read_text("utf-8").strip(),
        (tmp_path / "secret.key").read_bytes(),
    )
    async with open_world(tmp_path, kitchen=kitchen) as world:
        agent = await world.instances.get(AGENT)
        assert agent is not None
        world.engine.put(agent.sandbox_id, SandboxState.RUNNING)
        async with open_client(app_of(world)) as client:
            yield Api(client, world)


async def test_organizations_and_keys_of_0_1_0_are_there(former: Api) -> None:
    own = (await former.get("/v1/organization")).json()
    other = (await former.get("/v1/organization", key=OTHER_KEY)).json()
    assert (own["name"], own["subscription_tier"]) == ("default", "whale")
    assert (other["name"], other["subscription_tier"]) == ("Acme", "shrimp")
    keys = (await former.get("/v1/keys")).json()
    assert {each["name"]: each["is_active"] for each in keys} == {"reader": True, "revoked": False}
    assert (await former.get(f"/v1/instances/{AGENT}", key=SCOPED_KEY)).status_code == 200
    assert (await former.get("/v1/keys", key=SCOPED_KEY)).status_code == 403
    assert (await former.get(f"/v1/instances/{AGENT}", key=REVOKED_KEY)).status_code == 401
    assert (await former.get(f"/v1/instances/{AGENT}", key=OTHER_KEY)).status_code == 404


async def test_an_agent_of_0_1_0_is_there_with_its_configuration_and_usage(former: Api) -> None:
    (agent,) = (await former.get("/v1/instances")).json()
    assert (agent["id"], agent["name"], agent["status"]) == (AGENT, "Ada", "running")
    assert agent["openclaw_config"] == CONFIG
    usage = (await former.get(f"/local/instances/{AGENT}/usage")).json()
    assert usage["totals"]["calls"] == 1
    stopped = await former.post(f"/v1/instances/{AGENT}/stop")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")


async def test_a_snapshot_of_0_1_0_can_be_forked_and_restored(former: Api) -> None:
    (snapshot,) = (await former.get("/local/snapshots")).json()
    assert (snapshot["id"], snapshot["instance_id"], snapshot["name"]) == (SNAPSHOT, AGENT, "noted")
    fork = await former.post(f"/local/snapshots/{SNAPSHOT}/fork", json={"name": "Bea"})
    restoration = {"snapshot_id": SNAPSHOT}
    restored = await former.post(f"/local/instances/{AGENT}/restore", json=restoration)
    for each in (fork, restored):
        instance = await former.world.instances.get(InstanceId(each.json()["id"]))
        assert instance is not None
        now = await former.world.settled(instance)
        assert now.status == "running"
        note = former.world.state_of(now) / "workspace/note.txt"
        assert note.read_text("utf-8") == "of 0.1.0"


def test_each_setting_of_0_1_0_is_taken_or_named_in_a_warning() -> None:
    assert set(SETTINGS.split()) <= Settings.model_fields.keys() | FORMER_NAMES.keys()
