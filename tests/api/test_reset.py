"""A reset removes what an organization's tests made, and nothing of other organizations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus, Permission
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.instances.lifecycle.creation import InstanceDraft
from chowder_local.instances.lifecycle.service import DELETE_CONCURRENCY
from tests.api.test_access import scoped
from tests.scripted.engine import Hold
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from tests.api.conftest import Api


async def test_a_reset_removes_everything_but_the_organization(
    http: Api,
) -> None:
    world = http.world
    running, stopped = await world.created(), await world.stopped()
    await world.placed(InstanceStatus.ERROR)
    key = await scoped(http, running.id, Permission.READ)
    await scoped(http, running.id, Permission.FILES, is_active=False)
    await http.post("/local/faults", json={"kind": "message"})
    await http.post(f"/local/instances/{running.id}/snapshots", json={})
    await http.call("PUT", "/local/replies", json={"replies": []})
    before = (await http.get("/v1/organization")).json()
    answer = await http.post("/local/reset")
    gone = {"instances": 3, "keys": 2, "faults": 1, "snapshots": 1}
    assert (answer.status_code, answer.json()) == (200, gone)
    for path in ("/v1/instances", "/v1/keys", "/local/faults", "/local/snapshots"):
        assert (await http.get(path)).json() == []
    assert (await http.get("/v1/instances", key=key)).status_code == 401
    assert (await http.get("/local/replies")).json()["own"] is None
    assert await world.engine.sandboxes() == {}
    assert await world.engine.volumes() == set()
    assert (await http.get(f"/v1/instances/{stopped.id}")).json()["status"] == "terminated"
    assert (await http.get("/v1/organization")).json() == before | {"instance_count": 0}
    assert (await world.created()).status is InstanceStatus.RUNNING


async def test_a_reset_of_an_empty_organization_removes_nothing(http: Api) -> None:
    for _ in range(2):
        answer = await http.post("/local/reset")
        assert answer.json() == {"instances": 0, "keys": 0, "faults": 0, "snapshots": 0}


async def test_a_reset_leaves_other_organizations_alone(http: Api) -> None:
    theirs = await http.other_key()
    await http.patch(
        "/v1/organization", json={"model_api_keys": {"anthropic": "offline"}}, key=theirs
    )
    made = (await http.post("/v1/instances", json={"name": "Bea"}, key=theirs)).json()
    body = {"name": "ci", "instance_ids": [made["id"]], "permissions": ["read"]}
    key = (await http.post("/v1/keys", json=body, key=theirs)).json()["raw_key"]
    await http.post("/local/faults", json={"kind": "stop"}, key=theirs)
    await eventually(lambda: not http.world.provisioner.in_progress_count, "it is booted")
    await http.world.created()
    assert (await http.post("/local/reset")).json()["instances"] == 1
    assert (await http.get(f"/v1/instances/{made['id']}", key=key)).json()["status"] == "running"
    assert len((await http.get("/local/faults", key=theirs)).json()) == 1
    assert len(await http.world.engine.sandboxes()) == 1


async def test_a_reset_removes_instances_that_are_booting(http: Api) -> None:
    world = http.world
    hold = world.engine.holds["boot"] = Hold()
    made = await world.creation.create(world.organization_id, InstanceDraft("Ada"))
    await hold.has_begun.wait()
    assert (await http.post("/local/reset")).json()["instances"] == 1
    assert (await world.now(made)).status is InstanceStatus.TERMINATED
    assert not world.provisioner.is_in_progress(made.id)


async def test_a_few_instances_are_removed_at_a_time(http: Api) -> None:
    world = http.world
    for number in range(DELETE_CONCURRENCY + 2):
        await world.placed(InstanceStatus.STOPPED, number)
    hold = world.engine.holds["remove"] = Hold()
    async with asyncio.TaskGroup() as tasks:
        resetting = tasks.create_task(http.post("/local/reset"))
        await eventually(
            lambda: world.engine.made("remove") == DELETE_CONCURRENCY, "some are under way"
        )
        # One turn of the loop, in which more removals could begin.
        await http.get("/local/ready")
        assert world.engine.made("remove") == DELETE_CONCURRENCY
        hold.may_end.set()
    assert resetting.result().json()["instances"] == DELETE_CONCURRENCY + 2


async def test_an_engine_error_is_reported_after_everything_else_is_removed(http: Api) -> None:
    world = http.world
    await world.created()
    await world.created()
    await http.post("/local/faults", json={"kind": "message"})
    world.engine.failing["remove"] = EngineUnavailable("The engine is on holiday.")
    answer = await http.post("/local/reset")
    assert (answer.status_code, answer.json()) == (502, {"detail": "The engine is on holiday."})
    assert (await http.get("/v1/instances")).json() == []
    assert (await http.get("/local/faults")).json() == []
    # The reconciler removes the rest later.
    del world.engine.failing["remove"]
    await world.reconciler.reconcile()
    assert await world.engine.sandboxes() == {}
