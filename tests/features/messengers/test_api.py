"""People who write to an agent in channels of the local messenger."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.long_values import LONG_CHARS
from chowder_local.features.messengers import relay
from chowder_local.features.messengers.service import STAND_INS, Messengers
from chowder_local.features.messengers.stand_in import MAX_JSON_BYTES
from chowder_local.features.messengers.turns import CALLS_MAX
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import ADMIT
from tests.scripted.gateway import ok
from tests.scripted.serving import eventually
from tests.scripted.threads import LONG_VALUES, note_threads

if TYPE_CHECKING:
    from chowder_local.relay.call_log import ModelCall
    from tests.api.conftest import Api

LOCAL = {"botToken": "…", "apiRoot": "http://relay.local:2470/messengers/telegram/1"}


def set_telegram(http: Api, **configured: Any) -> None:
    config = ok({"hash": "1", "sourceConfig": {"channels": {"telegram": configured}}})
    http.world.gateway.rpc_answers["config.get"] = config


@pytest.fixture
async def path(http: Api) -> str:
    set_telegram(http, **LOCAL)
    agent = await http.world.created()
    return f"/local/instances/{agent.id}/channels/telegram/messages"


async def mailbox_of(http: Api, path: str) -> Any:
    instance = await http.world.instances.get(InstanceId(path.split("/")[3]))
    assert instance is not None
    return await http.world.feature(Messengers).mailbox(instance, "telegram")


async def test_what_a_person_says_waits_for_the_answer(http: Api, path: str) -> None:
    mailbox = await mailbox_of(http, path)
    asking = asyncio.create_task(http.post(path, json={"from": "Ada", "text": "Hi", "wait_s": 30}))
    await eventually(lambda: len(mailbox.messages) == 1, "it is said")
    await mailbox.add("agent", person="Bob", text="to somebody else")
    answer = await mailbox.add("agent", person="Ada", text="Hel")
    await mailbox.add("agent", person="Ada", text="Hello", kind="edit", of=answer.id)
    response = await asking
    assert response.status_code == 201
    result = response.json()
    assert (result["message"]["person"], result["message"]["author"]) == ("Ada", "person")
    assert [each["text"] for each in result["answers"]] == ["Hello"]
    listed = (await http.get(path, params={"person": "Ada"})).json()
    assert [each["kind"] for each in listed] == ["message", "message", "edit"]
    assert (await http.get(path, params={"after": listed[-1]["id"]})).json() == []


def begun_call(http: Api, path: str, text: str, turn: str, answer: str) -> ModelCall:
    """A model call of a turn with the words of a person."""
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    call = http.world.call_log.begin(
        http.world.organization_id,
        InstanceId(path.split("/")[3]),
        "anthropic",
        "v1/messages",
        json.dumps(body).encode(),
        turn,
    )
    http.world.clock.advance(1)
    call.at = http.world.clock.now
    content = [{"type": "text", "text": answer}]
    call.append(json.dumps({"type": "message", "content": content}).encode())
    return call


@pytest.mark.parametrize("is_begun", [True, False])
@pytest.mark.parametrize("turn", ["t-1", "t-2"])
async def test_a_late_answer_is_not_that_of_the_next_message(
    http: Api, path: str, turn: str, *, is_begun: bool
) -> None:
    mailbox = await mailbox_of(http, path)
    await http.post(path, json={"from": "Ada", "text": "How many?"})
    late = begun_call(http, path, "How many?", "t-1", "") if is_begun else None
    http.world.clock.advance(1)
    asking = asyncio.create_task(
        http.post(path, json={"from": "Ada", "text": "Which?", "wait_s": 30})
    )
    await eventually(lambda: len(mailbox.messages) == 2, "the next is said")
    if late is not None:
        # After a tool, a turn goes on with the same words.
        late.finish("offline")
    begun_call(http, path, "How many?", "t-1", "Three").finish("offline")
    if turn == "t-2":
        await mailbox.add("agent", person="Ada", text="Three")
    # OpenClaw lets a turn go on with what was said meanwhile, and sends both answers at its end.
    begun_call(http, path, "Which?", turn, "Three").finish("offline")
    if turn == "t-1":
        await mailbox.add("agent", person="Ada", text="Working")
        await mailbox.add("agent", person="Ada", text="Three")
    answer = await mailbox.add("agent", person="Ada", text="Three")
    assert [each["id"] for each in (await asking).json()["answers"]] == [answer.id]


@pytest.mark.parametrize("others", [1, CALLS_MAX])
async def test_a_turn_of_the_same_words_in_another_channel_leaves_no_answer_to_wait_for(
    http: Api, path: str, others: int
) -> None:
    mailbox = await mailbox_of(http, path)
    await http.post(path, json={"from": "Ada", "text": "Hello"})
    begun_call(http, path, "Hello", "t-1", "Three").finish("offline")
    http.world.clock.advance(1)
    await mailbox.add("agent", person="Ada", text="Three")
    for number in range(others):
        begun_call(http, path, "Hello", f"elsewhere-{number}", "Three").finish("offline")
    http.world.clock.advance(1)
    asking = asyncio.create_task(
        http.post(path, json={"from": "Ada", "text": "Which?", "wait_s": 30})
    )
    await eventually(lambda: mailbox.messages[-1].text == "Which?", "it is said")
    begun_call(http, path, "Which?", "t-2", "Three").finish("offline")
    answer = await mailbox.add("agent", person="Ada", text="Three")
    assert [each["id"] for each in (await asking).json()["answers"]] == [answer.id]


async def test_what_is_said_again_when_it_was_answered_is_answered_again(
    http: Api, path: str
) -> None:
    mailbox = await mailbox_of(http, path)
    for text in ("Hello", "Which?"):
        await http.post(path, json={"from": "Ada", "text": text})
        # Matrix's turns have all the same id.
        begun_call(http, path, text, "t-1", "Three").finish("offline")
        http.world.clock.advance(1)
        await mailbox.add("agent", person="Ada", text="Three")
    http.world.clock.advance(1)
    asking = asyncio.create_task(
        http.post(path, json={"from": "Ada", "text": "Hello", "wait_s": 30})
    )
    await eventually(lambda: mailbox.messages[-1].text == "Hello", "it is said again")
    begun_call(http, path, "Hello", "t-1", "Three").finish("offline")
    answer = await mailbox.add("agent", person="Ada", text="Three")
    assert [each["id"] for each in (await asking).json()["answers"]] == [answer.id]


async def test_only_a_late_answer_of_the_same_letters_is_left_out(http: Api, path: str) -> None:
    mailbox = await mailbox_of(http, path)
    await http.post(path, json={"from": "Ada", "text": "Which?"})
    begun_call(http, path, "Which?", "t-1", "Turn 1. You said: Which?").finish("offline")
    http.world.clock.advance(1)
    asking = asyncio.create_task(
        http.post(path, json={"from": "Ada", "text": "How many?", "wait_s": 30})
    )
    await eventually(lambda: mailbox.messages[-1].text == "How many?", "it is said")
    begun_call(http, path, "How many?", "t-2", "Turn 2. You said: How many?").finish("offline")
    answer = await mailbox.add("agent", person="Ada", text="Turn 2. You said: How many?")
    assert [each["id"] for each in (await asking).json()["answers"]] == [answer.id]


@pytest.mark.parametrize("text", ["Hello?", "/stop"])
async def test_an_answer_without_a_model_call_is_that_of_the_latest_message(
    http: Api, path: str, text: str
) -> None:
    mailbox = await mailbox_of(http, path)
    await http.post(path, json={"from": "Ada", "text": "How many?"})
    call = begun_call(http, path, "How many?", "t-1", "Three")
    if text == "Hello?":
        call.finish("offline")
        http.world.clock.advance(60)
        await mailbox.add("agent", person="Ada", text="Three")
    asking = asyncio.create_task(http.post(path, json={"from": "Ada", "text": text, "wait_s": 30}))
    await eventually(lambda: mailbox.messages[-1].text == text, "it is said")
    await mailbox.add("agent", person="Ada", text="No model is needed")
    call.finish("client_disconnected")
    answers = (await asking).json()["answers"]
    assert [each["text"] for each in answers] == ["No model is needed"]


async def test_what_is_said_in_any_channel_comes_in_one_list(http: Api, path: str) -> None:
    instance_id = path.split("/")[3]
    channels = path.removesuffix("/telegram/messages")
    await http.post(path, json={"from": "Ada", "text": "Hi"})
    reading = http.get(f"{channels}/messages", params={"after": 1, "wait_s": 25})
    waiting = asyncio.create_task(reading)
    instance = await http.world.instances.get(InstanceId(instance_id))
    assert instance is not None
    slack = await http.world.feature(Messengers).mailbox(instance, "slack")
    await eventually(lambda: slack.changes.has_viewers, "the list waits")
    await slack.add("agent", person="Bob", text="Hello")
    assert [(each["channel"], each["text"]) for each in (await waiting).json()] == [
        ("slack", "Hello")
    ]
    both = (await http.get(f"{channels}/messages")).json()
    assert [each["channel"] for each in both] == ["telegram", "slack"]


async def test_a_stopped_agent_gets_it_when_it_is_started(http: Api, path: str) -> None:
    instance_id = path.split("/")[3]
    await http.post(f"/v1/instances/{instance_id}/stop")
    said = await http.post(path, json={"from": "Ada", "text": "Good night"})
    assert (said.status_code, said.json()["message"]["is_delivered"]) == (201, False)
    waiting = await http.post(path, json={"from": "Ada", "text": "Hm", "wait_s": 1})
    assert waiting.status_code == 409


async def test_a_deleted_agent_has_no_messages_and_no_inbox(http: Api, path: str) -> None:
    agent = f"/local/instances/{path.split('/')[3]}"
    await http.call("DELETE", agent.replace("/local", "/v1"))
    for method, gone in (
        ("GET", path),
        ("DELETE", path),
        ("GET", f"{agent}/channels/messages"),
        ("GET", f"{agent}/messages"),
        ("GET", f"{agent}/inbox"),
        ("DELETE", f"{agent}/inbox"),
    ):
        assert (await http.call(method, gone)).status_code == 404, (method, gone)


async def test_line_has_no_text_beside_a_picture(http: Api, path: str) -> None:
    message = {"from": "Ada", "text": "Look", "image": "iVBORw0KGgo="}
    refused = await http.post(path.replace("telegram", "line"), json=message)
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "text"])


async def test_a_person_is_approved_before_the_message_is_delivered(http: Api, path: str) -> None:
    http.world.programs.answers[ADMIT] = {"is_found": True}
    said = await http.post(path, json={"from": "Ada", "text": "Hi", "approve": True})
    assert said.status_code == 201
    (request,) = http.world.programs.called(ADMIT)
    assert request["channel"] == "telegram"
    assert request["sender"].isdigit()


def test_every_channel_can_be_tried_without_the_internet() -> None:
    assert set(STAND_INS) == set(CHANNELS)


async def test_nobody_writes_to_a_real_messenger(http: Api, path: str) -> None:
    set_telegram(http, botToken="…")
    said = await http.post(path, json={"from": "Ada", "text": "Hi"})
    assert said.status_code == 409
    assert "not connected to the local messenger" in said.text


async def test_connecting_offline_and_with_real_fields_again(http: Api, path: str) -> None:
    instance_id = path.split("/")[3]
    connect = f"/v1/instances/{instance_id}/channels/telegram/connect"
    account = {"accountId": "default", "running": True, "connected": True, "lifecycle": "ready"}
    http.world.gateway.rpc_answers |= {
        "config.patch": ok({"sentinel": {"payload": {"stats": {"requiresRestart": False}}}}),
        "channels.status": ok({"channelAccounts": {"telegram": [account]}}),
    }
    for config in ({"offline": True}, {"token": "offline"}):
        assert (await http.post(connect, json={"config": config})).status_code == 200
    assert (await http.post(connect, json={"config": {"token": "1:x"}})).status_code == 200
    first, second, third = http.world.gateway.called("config.patch")
    for patch in (first, second):
        assert f"/messengers/telegram/{instance_id}" in patch["raw"]
        assert "offline" not in patch["raw"]
    assert '"apiRoot": null' in third["raw"]


async def test_a_deleted_instance_leaves_no_message(http: Api, path: str) -> None:
    await http.post(path, json={"from": "Ada", "text": "Hi"})
    instance_id = InstanceId(path.split("/")[3])
    assert (await http.call("DELETE", f"/v1/instances/{instance_id}")).status_code == 204
    gone = await http.world.instances.get(instance_id)
    assert gone is None or gone.status is InstanceStatus.TERMINATED
    rows = await http.world.feature(Messengers).queries.of_channel(instance_id, "telegram", 10)
    assert rows == []


async def test_a_longer_call_of_the_agents_than_is_read_is_refused(http: Api, path: str) -> None:
    world = http.world
    transport = httpx.ASGITransport(world.relay_app)
    url = f"/messengers/telegram/{path.split('/')[3]}/bot1:x/sendMessage"
    long = '{"text": "' + "x" * MAX_JSON_BYTES + '"}'
    async with httpx.AsyncClient(transport=transport, base_url="http://relay.local") as agent:
        for content_type, status in (("application/json", 413), ("text/plain", 401)):
            headers = {"Content-Type": content_type}
            answer = await agent.post(url, content=long, headers=headers)
            assert answer.status_code == status


async def test_no_client_waits_while_a_long_call_of_an_agent_is_read(
    http: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = http.world
    threads = note_threads(monkeypatch, (relay, "parse_object"))
    transport = httpx.ASGITransport(world.relay_app)
    url = f"/messengers/telegram/{path.split('/')[3]}/bot1:x/sendMessage"
    async with httpx.AsyncClient(transport=transport, base_url="http://relay.local") as agent:
        assert (await agent.post(url, json={"text": "x" * LONG_CHARS})).status_code == 401
    assert threads == {"parse_object": {LONG_VALUES}}
