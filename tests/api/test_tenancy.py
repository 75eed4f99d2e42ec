"""Isolation of organizations, and the access that deleted ids and revoked keys still have."""

from __future__ import annotations

import asyncio
import unicodedata
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from chowder_local.api.access import Access
from chowder_local.core.domain import InstanceId, Permission
from chowder_local.features.front import all_operations
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from tests.api.test_access import REQUESTS, filled, names_in_paths, route, scoped
from tests.scripted import gateway as scripted

if TYPE_CHECKING:
    import httpx

    from chowder_local.api.operations import Operation
    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

MESSAGE = {"model": "gpt-4o", "input": "Hi"}
OF_INSTANCES = [
    each
    for each in all_operations()
    if "{instance_id}" in each.path and each.access is not Access.ANYONE
]
PERMITTED = [each for each in OF_INSTANCES if each.access.permission]
NOT_FOUND = "Instance not found."


def without_id(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer, without the request's id."""
    headers = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
    return answer.status_code, answer.content, headers


async def send_valid(
    http: Api, operation: Operation, instance_id: str, key: str | None = None, **more: Any
) -> httpx.Response:
    """Sends the operation's valid request for an instance."""
    names = more.pop("names") | {"instance_id": instance_id}
    request = filled(REQUESTS.get(route(operation), {}), names) | more
    key = key or http.world.key
    return await http.call(operation.method, filled(operation.path, names), key=key, **request)


async def test_another_organizations_instance_looks_like_an_unknown_one(http: Api) -> None:
    ours, theirs = await http.world.created(), await http.other_key()
    names = await names_in_paths(http, ours.id)
    gone = await http.world.created()
    await http.call("DELETE", f"/v1/instances/{gone.id}")
    for operation in OF_INSTANCES:
        # The body makes no difference, so that its validation reveals nothing.
        for bad in ({}, {"json": {"what": "ever"}}, {"content": b"{"}):
            never = await send_valid(http, operation, str(uuid.uuid4()), theirs, names=names, **bad)
            assert (never.status_code, never.json()["detail"]) == (404, NOT_FOUND), route(operation)
            for guessed in (ours.id, gone.id, ours.id.upper(), ours.sandbox_id, "none"):
                answer = await send_valid(http, operation, guessed, theirs, names=names, **bad)
                assert without_id(answer) == without_id(never), route(operation)
    # It had no effect.
    assert (await http.get(f"/v1/instances/{ours.id}")).json()["status"] == "running"
    assert http.world.gateway.messages == []


async def test_a_scoped_key_gives_no_access_to_another_organization(http: Api) -> None:
    ours = await http.world.created()
    names = await names_in_paths(http, ours.id)
    theirs = await http.other_key()
    their_id = (await http.get("/v1/organization", key=theirs)).json()["id"]
    raw_key = "chd_sk_of_others"
    # Even a key with a grant that the store should never have.
    grants = {InstanceId(ours.id): frozenset(Permission)}
    await http.add_key(raw_key, organization_id=their_id, is_organization_key=False, grants=grants)
    for operation in OF_INSTANCES:
        answer = await send_valid(http, operation, ours.id, raw_key, names=names)
        never = await send_valid(http, operation, str(uuid.uuid4()), raw_key, names=names)
        assert answer.status_code == (404 if operation.access.permission else 403)
        assert without_id(answer) == without_id(never), route(operation)


async def test_another_organizations_keys_look_like_unknown_ones(http: Api) -> None:
    ours, theirs = await http.world.created(), await http.other_key()
    key_id = (await names_in_paths(http, ours.id))["key_id"]
    for method in ("GET", "DELETE"):
        never = await http.call(method, f"/v1/keys/{uuid.uuid4()}", key=theirs)
        answer = await http.call(method, f"/v1/keys/{key_id}", key=theirs)
        assert answer.status_code == 404
        assert without_id(answer) == without_id(never)
    assert (await http.get(f"/v1/keys/{key_id}")).json()["is_active"] is True
    asked_for = {"name": "spy", "permissions": ["read"]}
    answers = [
        without_id(
            await http.post("/v1/keys", key=theirs, json=asked_for | {"instance_ids": [each]})
        )
        for each in (ours.id, str(uuid.uuid4()))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


AFTER_THE_END = {
    "GET /v1/instances/{instance_id}/models": 200,
    "GET /v1/instances/{instance_id}": 200,
    "GET /v1/instances/{instance_id}/status": 200,
    # In any status: a client that missed the first answer tries again.
    "DELETE /v1/instances/{instance_id}": 204,
}
"""Statuses for a terminated instance, whose row is kept; other calls are a 409."""


@pytest.mark.parametrize("is_scoped", [False, True], ids=["organization", "scoped"])
async def test_a_terminated_instance_can_only_be_read_by_its_organization(
    http: Api, is_scoped: bool
) -> None:
    agent = await http.world.created()
    names = await names_in_paths(http, agent.id)
    key = await scoped(http, agent.id, *Permission) if is_scoped else http.world.key
    await http.call("DELETE", f"/v1/instances/{agent.id}")
    for operation in OF_INSTANCES:
        if operation.path.startswith("/local/"):
            continue
        answer = await send_valid(http, operation, agent.id, key, names=names)
        expected = AFTER_THE_END.get(route(operation), 409)
        if is_scoped:
            expected = 404 if operation.access.permission else 403
        assert answer.status_code == expected, f"{route(operation)}: {answer.text}"
    view = (await http.get(f"/v1/instances/{agent.id}")).json()
    assert (view["name"], view["status"], view["gateway_url"]) == ("Ada", "terminated", None)
    assert http.world.gateway.messages == []
    assert (await http.get("/v1/instances", key=key)).json() == []


async def test_an_id_is_never_reused(http: Api) -> None:
    agent = await http.world.created()
    key = await scoped(http, agent.id, *Permission)
    await http.call("DELETE", f"/v1/instances/{agent.id}")
    body = {"name": agent.name, "id": agent.id, "sandbox_id": agent.sandbox_id}
    created = (await http.post("/v1/instances", json=body)).json()
    assert created["id"] != agent.id
    assert created["sandbox_id"] != agent.sandbox_id
    # A key of the deleted instance gives no access to its successor.
    assert (await http.get(f"/v1/instances/{created['id']}", key=key)).status_code == 403


async def test_a_key_revoked_while_a_stream_runs_ends_with_the_next_request(http: Api) -> None:
    agent = await http.world.created()
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(message: scripted.ReceivedMessage, receive: Any, send: Any) -> None:
        has_begun.set()
        await may_end.wait()
        await scripted.friendly(message, receive, send)

    http.world.gateway.handler = slow
    body = {"name": "page", "instance_ids": [agent.id], "permissions": ["interact"]}
    key = (await http.post("/v1/keys", json=body)).json()
    path = f"/v1/instances/{agent.id}/responses"
    stream = MESSAGE | {"stream": True}
    async with asyncio.TaskGroup() as tasks:
        streaming = tasks.create_task(http.post(path, key=key["raw_key"], json=stream))
        await has_begun.wait()
        assert (await http.call("DELETE", f"/v1/keys/{key['id']}")).status_code == 204
        assert (await http.post(path, key=key["raw_key"], json=MESSAGE)).status_code == 401
        may_end.set()
    # A stream that has begun goes on to its end.
    assert streaming.result().status_code == 200
    assert streaming.result().text.endswith("data: [DONE]\n\n")


FORMS = [unicodedata.normalize(form, "ﬁancé Å") for form in ("NFC", "NFD", "NFKC", "NFKD")]
NAMES = [
    "Main", "MAIN", "main ", " main", "m\u0430in", "ma\u0131n", "main\u200b", "main\x00",
    "agent:main:main", "agent%3Amain%3Amain", "main:main", "../main", "../../main", "..", ".",
    "a/../b", "b", "./b", "b/", "/b", "//b", "%2e%2e/main", "..%2fmain", "%", "%25",
    "s-0", session_key("b"), session_key("b").removeprefix("agent:main:"), "global", "unknown",
    "cron:x", "subagent:b", "acp:b", "a?session=b", "a#b", "a;b", "a\nb", "a\r\nb",
    "x" * 10_000, "x" * 10_001, "\ufffd", *dict.fromkeys(FORMS),
]  # fmt: skip


async def test_no_session_name_reaches_another_session(http: Api) -> None:
    agent = await http.world.created()
    path = f"/v1/instances/{agent.id}"
    assert (await http.post(f"{path}/responses", json=MESSAGE)).status_code == 200
    for name in NAMES:
        # Dots too, because the client would resolve them.
        quoted = quote(name, safe="").replace(".", "%2E")
        answer = await http.post(f"{path}/session/{quoted}/responses", json=MESSAGE)
        assert answer.status_code == 200, name
    keys = [each.headers["x-openclaw-session-key"] for each in http.world.gateway.messages]
    assert keys == [MAIN_KEY, *map(session_key, NAMES)]
    assert len(set(keys)) == len(NAMES) + 1


async def test_the_session_main_is_the_main_conversation(http: Api) -> None:
    agent = await http.world.created()
    path = f"/v1/instances/{agent.id}/session/main/responses"
    assert (await http.post(path, json=MESSAGE)).status_code == 200
    (message,) = http.world.gateway.messages
    assert message.headers["x-openclaw-session-key"] == MAIN_KEY


async def test_instances_share_no_session_whatever_its_name(http: Api) -> None:
    one, two = await http.world.created(), await http.world.created()
    for agent in (one, two):
        path = f"/v1/instances/{agent.id}/session/a/responses"
        assert (await http.post(path, json=MESSAGE)).status_code == 200
    # The session key is the same, but each sandbox has its own token.
    assert len({each.headers["authorization"] for each in http.world.gateway.messages}) == 2


@pytest.mark.parametrize("name", ["%ff", "%fe", "a%C3", "%ed%a0%80", "%c0%ae%c0%ae"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_name_that_is_not_utf8_is_refused(
    shared: Api, agent: Instance, name: str, stream: bool
) -> None:
    path = f"/v1/instances/{agent.id}/session/{name}/responses"
    answer = await shared.post(path, json=MESSAGE | {"stream": stream})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["path", "session_id"]
    assert shared.world.gateway.messages == []


def test_every_route_of_an_instance_is_tested() -> None:
    assert len(OF_INSTANCES) > len(PERMITTED) > 15
