"""An instance's snapshots, their restores and forks, and exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.instances.snapshots.exports import MANIFEST
from tests.api.dashboard.conftest import NAVIGATING, ORIGIN, Elements

if TYPE_CHECKING:
    import httpx

    from chowder_local.core.domain import Instance, Snapshot
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'


def at(agent: Instance, snapshot: Snapshot | None = None, action: str = "") -> str:
    below = "" if snapshot is None else f"/{snapshot.id}/{action}"
    return f"/instances/{agent.id}/snapshots{below}"


def listed(html: str) -> list[str]:
    """The ids of the listed snapshots, from top to bottom."""
    rows = [each.get("id") or "" for each in Elements(html).all("tr")]
    return [each.removeprefix("snapshot-") for each in rows if each.startswith("snapshot-")]


async def import_file(visitor: Visitor, content: bytes, query: str = "") -> httpx.Response:
    """Sends an exported file as the page's script does."""
    headers = {"Origin": ORIGIN, "HX-Request": "true"} | NAVIGATING
    return await visitor.http.client.post(
        f"/instances/import{query}", content=content, headers=headers
    )


@pytest.mark.parametrize("name", ["before the storm", HOSTILE])
async def test_a_new_snapshot_is_first_in_the_list(visitor: Visitor, name: str) -> None:
    world = visitor.http.world
    agent = await world.created(name=HOSTILE)
    earlier = await world.snapshots.take(agent)
    world.clock.advance(60)
    answer = await visitor.post(at(agent), {"name": name})
    (latest, _) = listed(answer.text)
    assert listed((await visitor.get(at(agent))).text) == [latest, earlier.id]
    taken = await world.snapshots.get(agent.organization_id, latest)
    assert taken.name == name
    for html in (answer.text, (await visitor.get(at(agent))).text):
        assert all("src" in each for each in Elements(html).all("script"))
        assert not [each for _, each in Elements(html).tags if "onerror" in each]


async def test_a_snapshot_without_a_name_is_called_by_its_id(visitor: Visitor) -> None:
    agent = await visitor.http.world.stopped()
    answer = await visitor.post(at(agent), {"name": " "})
    (taken,) = listed(answer.text)
    assert f"snapshot {taken[:8]} is taken." in answer.text


async def test_an_empty_list_says_so(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    assert "There are no snapshots of Ada yet." in (await visitor.get(at(agent))).text


async def test_an_instance_is_restored_to_a_snapshot(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    snapshot = await world.snapshots.take(agent, "calm")
    dialog = await visitor.get(at(agent, snapshot, "restore"))
    assert "Restore Ada?" in dialog.text
    answer = await visitor.post(at(agent, snapshot, "restore"))
    assert "Ada is being restored to calm." in answer.text
    restored = await world.settled(agent)
    assert restored.status is InstanceStatus.RUNNING
    assert restored.sandbox_id != agent.sandbox_id


async def test_a_snapshot_is_forked(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    snapshot = await world.snapshots.take(agent, "calm")
    assert "Ada (calm)" in (await visitor.get(at(agent, snapshot, "fork"))).text
    answer = await visitor.post(at(agent, snapshot, "fork"), {"name": "Bea"})
    assert "Bea is being created from calm." in answer.text
    found = await world.directory.search(agent.organization_id, limit=10)
    assert {each.name for each in found} == {"Ada", "Bea"}
    assert (await visitor.post(at(agent, snapshot, "fork"))).status_code == 422


async def test_a_snapshot_is_deleted(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    snapshot = await world.snapshots.take(agent, "calm")
    assert "Delete calm?" in (await visitor.get(at(agent, snapshot, "delete"))).text
    answer = await visitor.post(at(agent, snapshot, "delete"))
    assert "calm is deleted." in answer.text
    assert listed(answer.text) == []
    for action in ("restore", "fork", "delete"):
        assert (await visitor.get(at(agent, snapshot, action))).status_code == 404
        assert (await visitor.post(at(agent, snapshot, action))).status_code == 404


async def test_a_provisioning_instance_cannot_be_copied(visitor: Visitor) -> None:
    agent = await visitor.http.world.placed(InstanceStatus.PROVISIONING)
    answer = await visitor.post(at(agent), {"name": "x"})
    assert answer.status_code == 409
    assert "Not possible now." in answer.text
    assert "Instance is provisioning" in answer.text


async def test_an_exported_agent_is_imported_as_a_new_instance(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.stopped()
    answer = await visitor.get(f"/instances/{agent.id}/export")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="Ada.chowder.tar')
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.content.startswith(MANIFEST.encode())
    assert "Import an agent" in (await visitor.get("/instances/import")).text
    for query, name in (("", "Ada"), ("?name=Bea", "Bea")):
        made = await import_file(visitor, answer.content, query)
        assert f"{name} is being created." in made.text
    found = await world.directory.search(agent.organization_id, limit=10)
    assert sorted(each.name for each in found) == ["Ada", "Ada", "Bea"]
    refused = await import_file(visitor, b"anything")
    assert refused.status_code == 400
    assert "This archive cannot be imported" in refused.text
