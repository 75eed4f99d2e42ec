"""Faults: forms of every kind, the list, and removal."""

from __future__ import annotations

from chowder_local.api.schemas.faults_and_replies import NEW
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.fault_injection import FaultKind
from tests.api.dashboard.conftest import Elements, Visitor

MORE = {
    FaultKind.STREAM: {"after_events": "0"},
    FaultKind.CALL: {"path": "/v1/instances/{instance_id}/files*", "method": "GET"},
}


def listed(html: str) -> list[str]:
    found = [each.get("id") or "" for each in Elements(html).all("tr")]
    return [each.removeprefix("fault-") for each in found if each.startswith("fault-")]


async def test_each_kind_of_fault_is_set_by_its_form(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    for kind in FaultKind:
        elements = Elements((await visitor.get(f"/faults?kind={kind}")).text)
        named = {
            each["name"]: each.get("value") or ""
            for tag in ("input", "select")
            for each in elements.all(tag)
            if each.get("name")
        }
        form = {**named, "kind": kind, "times": "3", "delay_s": "1.5"} | MORE.get(kind, {})
        if "instance_id" in named:
            form["instance_id"] = agent.id
        answer = await visitor.post("/faults", {each: form[each] for each in form if each})
        assert answer.status_code == 200, (kind, answer.text)
        (fault,) = world.faults.of_organization(world.organization_id)
        assert (fault.draft.kind, fault.left, fault.draft.delay_s) == (kind, 3, 1.5)
        assert (fault.draft.instance_id is None) == (kind in NEW), kind
        assert listed(answer.text) == [fault.id], kind
        assert "delay of 1.5 s" in answer.text, kind
        answer = await visitor.post(f"/faults/{fault.id}/remove")
        assert listed(answer.text) == [], kind


async def test_faults_do_not_apply_to_dashboard_actions_as_the_page_says(
    visitor: Visitor,
) -> None:
    world = visitor.http.world
    agent = await world.created()
    for kind in ("create", "stop", "start", "message"):
        await visitor.post("/faults", {"kind": kind, "status": "503", "times": "1"})
    page = (await visitor.get("/faults")).text
    assert "Talk, Create, Start and Stop on these pages are not affected" in page
    for path, form in (
        ("/instances", {}),
        (f"/instances/{agent.id}/messages", {"text": "Hi", "model": "gpt-4o"}),
        (f"/instances/{agent.id}/stop", {}),
        (f"/instances/{agent.id}/start", {}),
    ):
        assert (await visitor.post(path, form)).status_code == 200
    assert [each.left for each in world.faults.of_organization(world.organization_id)] == [1] * 4
    # A boot is an action of the server itself, so the fault applies.
    await visitor.post("/faults/clear")
    await visitor.post("/faults", {"kind": "provisioning", "times": "1"})
    assert "“provisioning” also applies to instances that you create here" in page
    await visitor.post("/instances", {"name": "Bea"})
    (bea,) = await world.directory.search(world.organization_id, text="Bea", limit=2)
    assert (await world.settled(bea)).status is InstanceStatus.ERROR


async def test_removing_all_faults_asks_for_confirmation(visitor: Visitor) -> None:
    for status in ("429", "500"):
        await visitor.post("/faults", {"kind": "message", "status": status})
    html = (await visitor.get("/faults")).text
    assert len(listed(html)) == 2
    assert "answers 429, Retry-After 1 s" in html
    assert "Remove 2 faults?" in (await visitor.get("/faults/clear")).text
    assert listed((await visitor.post("/faults/clear")).text) == []


async def test_an_invalid_fault_is_refused(visitor: Visitor) -> None:
    for form in (
        {"kind": "call"},
        {"kind": "call", "path": "/nowhere"},
        {"kind": "message", "after_events": "1"},
        {"kind": "message", "status": "200"},
    ):
        assert (await visitor.post("/faults", form)).status_code == 422, form
    answer = await visitor.post("/faults", {"kind": "message", "instance_id": "another"})
    assert answer.status_code == 404
