"""Breakpoints by the API; test_wire.py has what they do to model calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.features.breakpoints.model import BreakpointMatch
from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.http import responses
from chowder_local.relay.calls import Credential, RelayRequest
from chowder_local.relay.holds import Release
from tests.scripted import gateway as scripted
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.features.breakpoints.service import HeldCall
    from tests.api.conftest import Api

BODY = b'{"model": "gpt-4o", "input": "Hi"}'


async def held(http: Api, instance: Instance) -> HeldCall:
    """A model call of an instance that its breakpoint holds."""
    world = http.world
    request = RelayRequest("openai", "POST", "responses", "", (), BODY)
    owner = Credential(instance.organization_id, instance.id, instance.sandbox_id, "offline")
    found = await world.feature(Breakpoints).hold(
        request, world.journal.begin(request, owner, request.session)
    )
    assert found is not None
    return found


async def test_a_breakpoint_is_set_shown_and_removed(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/breakpoint"
    assert (await http.get(path)).status_code == 404
    made = await http.call("PUT", path, json={"match": {"text": "Hi", "call_number": 2}})
    assert made.status_code == 200
    shown = (await http.get(path)).json()
    assert shown == made.json()
    assert (shown["match"]["text"], shown["match"]["call_number"], shown["once"]) == (
        "Hi",
        2,
        False,
    )
    for _ in range(2):
        assert (await http.call("DELETE", path)).status_code == 204
    assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [{"match": {"txt": "Hi"}}, {"match": {"call_number": 0}}, {"once": 1}, [], {"matches": {}}],
)
async def test_other_breakpoints_are_refused(http: Api, body: Any) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/breakpoint"
    assert (await http.call("PUT", path, json=body)).status_code == 422


async def test_held_calls_are_listed_and_let_go_by_their_organization_only(http: Api) -> None:
    instance = await http.world.created()
    http.world.feature(Breakpoints).put(instance.id, BreakpointMatch(), once=True)
    call = await held(http, instance)
    (listed,) = (await http.get("/local/held-calls")).json()
    assert (listed["id"], listed["instance_id"]) == (call.call.id, instance.id)
    path = f"/local/held-calls/{call.call.id}/resume"
    other = await http.other_key()
    assert (await http.get("/local/held-calls", key=other)).json() == []
    assert (await http.post(path, json={}, key=other)).status_code == 404
    for wrong in ({"request": {}, "reply": "Yes."}, {"reply": " "}, {"reply": {"template": ""}}):
        assert (await http.post(path, json=wrong)).status_code == 422
    assert (await http.post(path, json={"reply": "Yes."})).status_code == 200
    release = await call.released()
    assert release.action is not None
    assert (release.action.text, release.how) == ("Yes.", "answered")
    assert (await http.post(path, json={})).status_code == 404
    assert (await http.get("/local/held-calls")).json() == []


async def test_a_list_of_held_calls_waits_for_one_of_an_instance(http: Api) -> None:
    instance, other = await http.world.created(), await http.world.created()
    for each in (instance, other):
        http.world.feature(Breakpoints).put(each.id, BreakpointMatch(), once=True)
    path = f"/local/held-calls?instance_id={instance.id}&wait_s="
    assert (await http.get(f"{path}0.01")).json() == []
    waiting = asyncio.create_task(http.get(f"{path}25"))
    changes = http.world.feature(Breakpoints).changes
    await eventually(lambda: changes.has_viewers, "it waits")
    await held(http, other)
    call = await held(http, instance)
    (listed,) = (await waiting).json()
    assert listed["id"] == call.call.id
    assert len((await http.get("/local/held-calls")).json()) == 2
    assert (await http.get(f"{path}26")).status_code == 422


async def test_the_servers_end_ends_a_wait_for_held_calls(http: Api) -> None:
    waiting = asyncio.create_task(http.get("/local/held-calls?wait_s=25"))
    await eventually(lambda: http.world.feature(Breakpoints).changes.has_viewers, "it waits")
    http.world.shutdown.begin()
    assert (await waiting).json() == []


async def test_the_clients_stream_gets_comments_while_a_call_is_held(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "COMMENT_S", 0.01)
    instance = await http.world.created()
    http.world.feature(Breakpoints).put(instance.id, BreakpointMatch(), once=False)
    call = await held(http, instance)
    asked = 0

    async def slow(message: scripted.ReceivedMessage, receive: Receive, send: Send) -> None:
        await call.release
        await scripted.friendly(message, receive, send)

    def has_held(_: InstanceId) -> bool:
        nonlocal asked
        asked += 1
        return True

    monkeypatch.setattr(http.world.call_log, "has_held", has_held)
    http.world.gateway.handler = slow
    body = {"model": "gpt-4o", "input": "Hi", "stream": True}
    sent = asyncio.create_task(http.post(f"/v1/instances/{instance.id}/responses", json=body))
    await eventually(lambda: asked > 1, "it has got comments")
    http.world.feature(Breakpoints).resume(instance.organization_id, call.call.id, Release())
    answer = await sent
    assert answer.status_code == 200
    assert answer.text.startswith(": held at a breakpoint\n\n")
    assert answer.text.endswith("data: [DONE]\n\n")
