"""Webhooks to agents, and those that agents send to their inboxes."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.core.domain import RELAY_HOSTNAME
from chowder_local.features.webhooks.inbox import MAX_BODY_BYTES
from tests.scripted import gateway as scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

BODY = {"text": "The build is green."}


@pytest.fixture
async def instance(http: Api) -> Instance:
    """An instance whose OpenClaw has no hooks until its configuration is changed."""
    made = await http.world.created()

    async def handler(message: Any, receive: Any, send: Any) -> None:
        if message.body == BODY:
            await scripted.answer(send, 200, {"ok": True, "mode": "now"})
        else:
            await scripted.answer(send, 400, {"ok": False, "error": "text required"})

    http.world.gateway.handler = handler
    return made


@pytest.fixture
async def sandbox(http: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client in a sandbox, which reaches the relay."""
    transport = httpx.ASGITransport(http.world.relay_app)
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://{RELAY_HOSTNAME}"
    ) as client:
        yield client


async def test_the_first_webhook_switches_hooks_on_and_others_find_them_on(
    http: Api, instance: Instance
) -> None:
    path = f"/local/instances/{instance.id}/hooks/wake"
    for _ in range(2):
        answer = await http.post(path, json=BODY, headers={"X-Event": "push"})
        assert answer.json() == {"status": 200, "answer": {"ok": True, "mode": "now"}}
    (patch,) = http.world.gateway.called("config.patch")
    hooks = json.loads(patch["raw"])["hooks"]
    assert hooks == {
        "enabled": True,
        "token": http.world.secret_box.hook_token(instance.id),
        "path": "/hooks",
    }
    received = http.world.gateway.messages[-1].headers
    assert received["authorization"] == f"Bearer {hooks['token']}"
    assert received["x-event"] == "push"


async def test_a_refusal_of_openclaw_has_its_status_and_its_reason(
    http: Api, instance: Instance
) -> None:
    answer = await http.post(f"/local/instances/{instance.id}/hooks/wake", json={"text": ""})
    assert answer.status_code == 400
    assert answer.json()["detail"] == "The hook 'wake' answered 400: text required"


async def test_a_hook_stays_at_the_gateway_whatever_path_the_agent_gives_it(
    http: Api, instance: Instance
) -> None:
    config = {"hooks": {"path": "@127.0.0.1:1/x"}}
    http.world.gateway.rpc_answers["config.get"] = scripted.ok({"hash": "1", "config": config})
    answer = await http.post(f"/local/instances/{instance.id}/hooks/wake", json=BODY)
    # The gateway has no such hook, and refuses the hooks' token elsewhere.
    assert answer.json()["detail"].startswith("The hook 'wake' answered 401")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"text": "' + b"x" * MAX_BODY_BYTES + b'"}', 413),
        (b"[" * 100_000 + b"]" * 100_000, 422),
        (b"text=hello", 422),
    ],
)
async def test_a_body_that_openclaw_could_not_take_does_not_reach_it(
    http: Api, instance: Instance, body: bytes, status: int
) -> None:
    answer = await http.post(f"/local/instances/{instance.id}/hooks/agent", content=body)
    assert answer.status_code == status
    assert http.world.gateway.messages == []


async def test_a_webhook_of_an_agent_is_listed_without_secrets(
    http: Api, sandbox: httpx.AsyncClient
) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/inbox"
    waiting = asyncio.create_task(http.get(path, params={"wait_s": 20}))
    token = http.world.secret_box.inbox_token(instance.id)
    headers = {"Authorization": "Bearer abc", "X-Hub-Signature": "abc", "X-Event": "push"}
    sent = await sandbox.put(f"/inbox/{token}/orders/7?x=1", content=b'{"a": 1}', headers=headers)
    assert sent.status_code == 200
    listed = (await waiting).json()
    assert listed["url"].endswith(f"/inbox/{token}")
    (webhook,) = listed["webhooks"]
    assert (webhook["method"], webhook["path"], webhook["query"]) == ("PUT", "/orders/7", "x=1")
    assert (webhook["body"], webhook["is_base64"]) == ('{"a": 1}', False)
    shown = dict(webhook["headers"])
    assert shown["x-event"] == "push"
    assert shown["authorization"] == shown["x-hub-signature"] == "[hidden]"
    (event,) = [each for each in http.world.events.after(0) if each.type == "webhook.received"]
    assert event.members == {"number": 1, "method": "PUT", "path": "/orders/7"}
    assert (await http.call("DELETE", path)).status_code == 204
    await sandbox.post(f"/inbox/{token}", content=b"\xff")
    (webhook,) = (await http.get(path)).json()["webhooks"]
    assert (webhook["number"], webhook["path"], webhook["is_base64"]) == (2, "", True)
    assert base64.b64decode(webhook["body"]) == b"\xff"


async def test_nobody_writes_into_an_inbox_without_its_token(
    http: Api, sandbox: httpx.AsyncClient
) -> None:
    instance, other = await http.world.created(), await http.world.created(name="other")
    token = http.world.secret_box.inbox_token(other.id)
    forged = f"{instance.id}.{token.partition('.')[2]}"
    for each in (forged, instance.id, "x", http.world.secret_box.relay_token(instance.sandbox_id)):
        assert (await sandbox.post(f"/inbox/{each}/a", content=b"x")).status_code == 404
    large = b"x" * (MAX_BODY_BYTES + 1)
    assert (await sandbox.post(f"/inbox/{token}/a", content=large)).status_code == 413
    assert (await http.get(f"/local/instances/{instance.id}/inbox")).json()["webhooks"] == []
