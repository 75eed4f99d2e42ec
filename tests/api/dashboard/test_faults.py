"""Faults: every kind is set by its form, listed, and taken back."""

from __future__ import annotations

from chowder_local.api.schemas.faults import NEW
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


async def test_each_kind_has_a_form_that_sets_it(visitor: Visitor) -> None:
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
        answer = await visitor.sent("/faults", {each: form[each] for each in form if each})
        assert answer.status_code == 200, (kind, answer.text)
        (fault,) = world.faults.of(world.organization_id)
        assert (fault.draft.kind, fault.left, fault.draft.delay_s) == (kind, 3, 1.5)
        assert (fault.draft.instance_id is None) == (kind in NEW), kind
        assert listed(answer.text) == [fault.id], kind
        assert "waits 1.5 s" in answer.text, kind
        answer = await visitor.sent(f"/faults/{fault.id}/remove")
        assert listed(answer.text) == [], kind


async def test_the_page_says_that_its_own_actions_are_spared_and_so_they_are(
    visitor: Visitor,
) -> None:
    world = visitor.http.world
    agent = await world.created()
    for kind in ("create", "stop", "start", "message"):
        await visitor.sent("/faults", {"kind": kind, "status": "503", "times": "1"})
    page = (await visitor.get("/faults")).text
    assert "Talk, Create, Start and Stop on these pages are not affected" in page
    for path, form in (
        ("/instances", {}),
        (f"/instances/{agent.id}/messages", {"text": "Hi", "model": "gpt-4o"}),
        (f"/instances/{agent.id}/stop", {}),
        (f"/instances/{agent.id}/start", {}),
    ):
        assert (await visitor.sent(path, form)).status_code == 200
    assert [each.left for each in world.faults.of(world.organization_id)] == [1] * 4
    # A boot is the server's own doing, whoever has asked for it.
    await visitor.sent("/faults/clear")
    await visitor.sent("/faults", {"kind": "provisioning", "times": "1"})
    assert "“provisioning” applies to every new instance, here as well" in page
    await visitor.sent("/instances", {"name": "Bea"})
    (bea,) = await world.directory.search(world.organization_id, text="Bea", limit=2)
    assert (await world.settled(bea)).status is InstanceStatus.ERROR


async def test_all_are_taken_back_after_a_question(visitor: Visitor) -> None:
    for status in ("429", "500"):
        await visitor.sent("/faults", {"kind": "message", "status": status})
    html = (await visitor.get("/faults")).text
    assert len(listed(html)) == 2
    assert "is answered 429, to be tried again after 1 s" in html
    assert "Remove 2 faults?" in (await visitor.get("/faults/clear")).text
    assert listed((await visitor.sent("/faults/clear")).text) == []


async def test_what_would_never_happen_is_refused(visitor: Visitor) -> None:
    for form in (
        {"kind": "call"},
        {"kind": "call", "path": "/nowhere"},
        {"kind": "message", "after_events": "1"},
        {"kind": "message", "status": "200"},
    ):
        assert (await visitor.sent("/faults", form)).status_code == 422, form
    answer = await visitor.sent("/faults", {"kind": "message", "instance_id": "another"})
    assert answer.status_code == 404


async def test_an_organization_sees_its_own_only(visitor: Visitor) -> None:
    await visitor.sent("/faults", {"kind": "message"})
    (fault_id,) = listed((await visitor.get("/faults")).text)
    await visitor.signed_in(await visitor.http.other_key())
    assert listed((await visitor.get("/faults")).text) == []
    assert (await visitor.sent(f"/faults/{fault_id}/remove")).status_code == 404
    await visitor.sent("/faults/clear")
    assert len(visitor.http.world.faults.of(visitor.http.world.organization_id)) == 1
