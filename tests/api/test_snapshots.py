"""Snapshots, forks, restores, exports and imports over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from tests.scripted.engine import Hold
from tests.scripted.gateway import ok
from tests.scripted.homes import archive, exported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

NOTES = ".openclaw/workspace/notes.md"
TAR = {"Content-Type": "application/x-tar"}


async def agent(http: Api) -> Instance:
    instance = await http.world.created()
    http.world.engine.put_home(instance.sandbox_id, archive({NOTES: b"teal"}))
    return instance


async def test_a_snapshot_is_shown_listed_and_removed(http: Api) -> None:
    instance = await agent(http)
    path = f"/local/instances/{instance.id}/snapshots"
    taken = await http.post(path, json={"name": "before"})
    assert taken.status_code == 201
    view = taken.json()
    assert (view["instance_id"], view["name"]) == (instance.id, "before")
    assert set(view) == {
        "id", "instance_id", "name", "model_provider", "openclaw_version", "size_bytes",
        "created_at",
    }  # fmt: skip
    own = f"/local/snapshots/{view['id']}"
    assert (await http.get(own)).json() == view
    assert (await http.get(path)).json() == (await http.get("/local/snapshots")).json() == [view]
    assert (await http.call("DELETE", own)).status_code == 204
    for method in ("GET", "DELETE"):
        answer = await http.call(method, own)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Snapshot not found."})


async def test_a_snapshot_needs_no_name(http: Api) -> None:
    path = f"/local/instances/{(await agent(http)).id}/snapshots"
    assert (await http.post(path, json={})).json()["name"] is None


async def test_a_fork_is_a_provisioning_instance(http: Api) -> None:
    instance = await agent(http)
    forked = await http.post(f"/local/instances/{instance.id}/fork", json={"name": "Bea"})
    assert forked.status_code == 201
    view = forked.json()
    assert (view["name"], view["status"], view["sandbox_id"]) == ("Bea", "provisioning", None)
    assert set(view) == set((await http.get(f"/v1/instances/{instance.id}")).json())


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 129}])
async def test_a_fork_needs_a_valid_name(http: Api, body: dict[str, Any]) -> None:
    instance = await agent(http)
    answer = await http.post(f"/local/instances/{instance.id}/fork", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "name"]


async def test_an_upgrade_names_the_snapshot_to_go_back_to(http: Api) -> None:
    instance = await agent(http)
    path = f"/local/instances/{instance.id}"
    view = (await http.post(f"{path}/upgrade", json={"to": "2026.9.7"})).json()
    (snapshot,) = (await http.get(f"{path}/snapshots")).json()
    assert (snapshot["id"], snapshot["openclaw_version"]) == (view["snapshot_id"], "v1")
    assert (view["from_version"], view["to_version"]) == ("2026.9.6", "2026.9.7")
    assert (view["status"], view["findings"]) == ("provisioning", [])


async def test_a_dry_run_says_whether_the_agent_can_be_upgraded(http: Api) -> None:
    instance = await agent(http)
    finding = {"check": "database/state", "severity": "error", "message": "it is incompatible"}
    http.world.engine.examinations["2026.9.7"] = json.dumps({"findings": [finding]}).encode()
    body = {"to": "2026.9.7", "dry_run": True}
    view = (await http.post(f"/local/instances/{instance.id}/upgrade", json=body)).json()
    assert (view["can_upgrade"], view["findings"]) == (
        False,
        [finding | {"is_expected": False}],
    )
    assert (view["snapshot_id"], view["status"]) == (None, "running")


@pytest.mark.parametrize(("to", "status"), [("2026.9.5", 409), ("v1", 409), ("2026.1.1", 400)])
async def test_an_upgrade_that_is_none_is_refused(http: Api, to: str, status: int) -> None:
    instance = await agent(http)
    answer = await http.post(f"/local/instances/{instance.id}/upgrade", json={"to": to})
    assert answer.status_code == status


async def test_an_agent_is_exported_and_imported(http: Api) -> None:
    instance = await agent(http)
    path = f"/local/instances/{instance.id}/export"
    given = await http.get(path)
    assert given.status_code == 200
    assert given.headers["Content-Type"] == "application/octet-stream"
    assert 'filename="Ada.chowder.tar"' in given.headers["Content-Disposition"]
    assert int(given.headers["Content-Length"]) == len(given.content)
    head = await http.call("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    new = await http.post(
        "/local/instances/import", params={"name": "Bea"}, content=given.content, headers=TAR
    )
    assert (new.status_code, new.json()["name"]) == (201, "Bea")
    result = await http.world.instances.get(new.json()["id"])
    assert result is not None
    settled = await http.world.settled(result)
    assert (http.world.engine.home(settled.sandbox_id) / NOTES).read_bytes() == b"teal"


JOB = {
    "id": "j-1",
    "name": "report",
    "enabled": True,
    "schedule": {"kind": "every", "everyMs": 60_000},
    "payload": {"kind": "agentTurn", "message": "It is nine"},
}


def changes_of_jobs(http: Api) -> list[tuple[str, Any]]:
    return [each for each in http.world.gateway.rpc_calls if each[0] in {"cron.update", "cron.add"}]


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ({}, [("cron.update", {"id": "j-1", "patch": {"enabled": False}})]),
        ({"jobs": "on"}, []),
    ],
)
async def test_the_jobs_of_a_fork_are_off_unless_they_are_wanted(
    http: Api, body: dict[str, Any], changes: list[tuple[str, Any]]
) -> None:
    instance = await agent(http)
    http.world.gateway.rpc_answers["cron.list"] = ok({"jobs": [JOB]})
    answer = await http.post(f"/local/instances/{instance.id}/fork", json={"name": "Bea"} | body)
    assert answer.status_code == 201
    fork = await http.world.instances.get(answer.json()["id"])
    assert fork is not None
    assert (await http.world.settled(fork)).status is InstanceStatus.RUNNING
    assert changes_of_jobs(http) == changes


async def copied(http: Api, path: str, **request: Any) -> Instance:
    """The instance that a call makes, once it runs."""
    answer = await http.post(path, **request)
    assert answer.status_code == 201, answer.text
    copy = await http.world.instances.get(answer.json()["id"])
    assert copy is not None
    return await http.world.settled(copy)


async def fork_of_a_fork(http: Api, fork: Instance, **body: str) -> Instance:
    return await copied(http, f"/local/instances/{fork.id}/fork", json={"name": "C", **body})


async def of_a_snapshot(http: Api, fork: Instance, **body: str) -> Instance:
    snapshot = await http.world.snapshots.take(fork)
    await http.world.lifecycle.delete(fork.organization_id, fork.id)
    return await copied(http, f"/local/snapshots/{snapshot.id}/fork", json={"name": "C", **body})


async def of_a_restored_fork(http: Api, fork: Instance, **body: str) -> Instance:
    snapshot = await http.world.snapshots.take(fork)
    http.world.gateway.rpc_answers["cron.list"] = ok({"jobs": [JOB]})
    assert (await http.get(f"/local/instances/{fork.id}/jobs")).json()[0]["is_enabled"]
    http.world.gateway.rpc_answers["cron.list"] = ok({"jobs": OFF})
    path = f"/local/instances/{fork.id}/restore"
    assert (await http.post(path, json={"snapshot_id": snapshot.id})).status_code == 200
    return await fork_of_a_fork(http, await http.world.settled(fork), **body)


OFF = [JOB | {"enabled": False}, JOB | {"id": "j-2", "enabled": False}]
"""The jobs of a fork; the second one was off in the original, too."""


@pytest.mark.parametrize("copy", [fork_of_a_fork, of_a_snapshot, of_a_restored_fork])
@pytest.mark.parametrize("jobs", ["on", "off"])
async def test_a_fork_of_a_fork_runs_the_jobs_that_the_original_ran(
    http: Api, copy: Callable[..., Awaitable[Instance]], jobs: str
) -> None:
    instance = await agent(http)
    http.world.gateway.rpc_answers["cron.list"] = ok({"jobs": [JOB, OFF[1]]})
    fork = await copied(http, f"/local/instances/{instance.id}/fork", json={"name": "Bea"})
    http.world.gateway.rpc_answers["cron.list"] = ok({"jobs": OFF})
    http.world.gateway.rpc_calls.clear()
    await copy(http, fork, jobs=jobs)
    switched_on = [("cron.update", {"id": "j-1", "patch": {"enabled": True}})]
    assert changes_of_jobs(http) == (switched_on if jobs == "on" else [])


async def test_a_fork_of_a_fork_leaves_off_what_somebody_switched_off_there(http: Api) -> None:
    instance = await agent(http)
    http.world.gateway.rpc_answers["cron.list"] = ok({"jobs": [JOB]})
    fork = await copied(http, f"/local/instances/{instance.id}/fork", json={"name": "Bea"})
    for enabled in (True, False):
        http.world.gateway.rpc_answers |= {
            "cron.get": ok(JOB), "cron.update": ok(JOB),
            "cron.list": ok({"jobs": [JOB | {"enabled": enabled}]}),
        }  # fmt: skip
        path = f"/local/instances/{fork.id}/jobs/j-1"
        assert (await http.patch(path, json={"is_enabled": enabled})).status_code == 200
    http.world.gateway.rpc_calls.clear()
    await fork_of_a_fork(http, fork, jobs="on")
    assert changes_of_jobs(http) == []


async def test_an_import_of_a_copys_export_runs_the_jobs_that_the_original_ran(http: Api) -> None:
    http.world.gateway.rpc_answers["cron.add"] = ok(JOB | {"enabled": False})
    http.world.programs.answers["jobs"] = {"jobs": [JOB, OFF[1]]}
    copy = await agent(http)
    for query in ({}, {"jobs": "on"}):
        given = await http.get(f"/local/instances/{copy.id}/export")
        http.world.gateway.rpc_calls.clear()
        path = "/local/instances/import"
        copy = await copied(http, path, params=query, content=given.content, headers=TAR)
        enabled = [params["enabled"] for _, params in changes_of_jobs(http)]
        assert enabled == [bool(query), False]
        http.world.programs.answers["jobs"] = {"jobs": OFF}


@pytest.mark.parametrize(("query", "is_enabled"), [({}, False), ({"jobs": "on"}, True)])
async def test_an_export_carries_the_jobs(
    http: Api, query: dict[str, str], is_enabled: bool
) -> None:
    instance = await agent(http)
    http.world.programs.answers["jobs"] = {"jobs": [{**JOB, "state": {"nextRunAtMs": 1}}]}
    given = await http.get(f"/local/instances/{instance.id}/export")
    path = "/local/instances/import"
    new = await http.post(path, params=query, content=given.content, headers=TAR)
    result = await http.world.instances.get(new.json()["id"])
    assert result is not None
    await http.world.settled(result)
    carried = {name: value for name, value in JOB.items() if name != "id"}
    assert changes_of_jobs(http) == [("cron.add", {**carried, "enabled": is_enabled})]


async def test_an_invalid_archive_is_a_400_that_says_so(http: Api) -> None:
    answer = await http.post("/local/instances/import", content=b"PK\x03\x04", headers=TAR)
    assert answer.status_code == 400
    assert answer.json() == {
        "detail": "This archive cannot be imported: it is not a plain tar archive."
    }
    answer = await http.post(
        "/local/instances/import", params={"name": ""}, content=exported(), headers=TAR
    )
    assert answer.status_code == 422
    assert (await http.get("/v1/instances")).json() == []


async def test_a_fork_counts_towards_the_instance_limit(http: Api) -> None:
    key = await http.other_key()
    first = await http.post("/local/instances/import", content=exported(), key=key, headers=TAR)
    assert first.status_code == 201
    again = await http.post("/local/instances/import", content=exported(), key=key, headers=TAR)
    assert again.status_code == 402
    path = f"/local/instances/{first.json()['id']}/fork"
    # It has no model key, so it never ran, and there is nothing to copy.
    await http.world.settled(await http.world.instances.get(first.json()["id"]))  # type: ignore[arg-type]  # it is there
    assert (await http.post(path, json={"name": "Bea"}, key=key)).status_code == 409


async def test_a_provisioning_instance_cannot_be_restored(http: Api) -> None:
    instance = await agent(http)
    snapshot = await http.world.snapshots.take(instance)
    path, body = f"/local/instances/{instance.id}/restore", {"snapshot_id": snapshot.id}
    hold = http.world.engine.holds["boot"] = Hold()
    restored = await http.post(path, json=body)
    assert (restored.status_code, restored.json()["status"]) == (200, "provisioning")
    again = await http.post(path, json=body)
    assert again.status_code == 409
    hold.may_end.set()
    await http.world.settled(instance)
    assert (await http.post(path, json={"snapshot_id": "none"})).status_code == 404
