"""Faults of the local messenger, as a real stand-in and a real mailbox have them."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.api.schemas.faults_and_replies import FaultCreation
from chowder_local.app.relay_app import serve_relay
from chowder_local.core.domain import RELAY_HOSTNAME, InstanceStatus
from chowder_local.features.messengers import msteams, whatsapp
from chowder_local.features.messengers.mailbox import ChannelFault
from chowder_local.features.messengers.service import STAND_INS, Messengers
from chowder_local.features.messengers.stand_in import Call
from chowder_local.http.listener import bound_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chowder_local.core.domain import Instance
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox
    from tests.scripted.world import World


@pytest.fixture
async def agent(world: World) -> Instance:
    return await world.placed(InstanceStatus.RUNNING)


@pytest.fixture
async def mailbox(world: World, agent: Instance) -> Mailbox:
    mailbox = await world.feature(Messengers).mailbox(agent, "telegram")
    await mailbox.add("person", person="Ada", text="before")
    await mailbox.mark_delivered(mailbox.messages[-1].id)
    return mailbox


def inject(world: World, agent: Instance, **members: Any) -> None:
    fault = FaultCreation(kind="channel", instance_id=agent.id, **members).draft()
    world.faults.add(agent.organization_id, fault)


def texts(messages: Iterable[ChannelMessage]) -> list[str | None]:
    return [each.text for each in messages]


CALLS: dict[str, tuple[str, str, Any]] = {
    "discord": (
        "channel_id",
        "discord.com/api/v10/channels/{chat}/messages",
        {"content": "one"},
    ),
    "googlechat": ("space.name", "chat.googleapis.com/v1/{chat}/messages", {"text": "one"}),
    "line": (
        "events.0.source.userId",
        "api.line.me/v2/bot/message/push",
        {"to": "{chat}", "messages": [{"type": "text", "text": "one"}]},
    ),
    "matrix": (
        "room_id",
        "_matrix/client/v3/rooms/{chat}/send/m.room.message/t1",
        {"msgtype": "m.text", "body": "one"},
    ),
    "mattermost": ("channel_id", "api/v4/posts", {"channel_id": "{chat}", "message": "one"}),
    "msteams": (
        "conversation.id",
        "smba.trafficmanager.net/teams/v3/conversations/{chat}/activities",
        {"type": "message", "text": "one"},
    ),
    "signal": (
        "sourceNumber",
        "{secret}/api/v1/rpc",
        {
            "jsonrpc": "2.0",
            "id": "1",
            "method": "send",
            "params": {"recipient": ["{chat}"], "message": "one"},
        },
    ),
    "slack": (
        "payload.event.channel",
        "slack.com/api/chat.postMessage",
        {"channel": "{chat}", "text": "one"},
    ),
    "telegram": ("chat.id", "bot{token}/sendMessage", {"chat_id": "{chat}", "text": "one"}),
    "whatsapp": (
        "chatJid",
        "events",
        {"key": {"remoteJid": "{chat}"}, "message": {"conversation": "one"}},
    ),
}
"""How an agent answers: where it has found the chat, the path, and the content."""
OWN_TOKENS: dict[str, Callable[[str], str]] = {
    "msteams": msteams.access_token,
    "whatsapp": whatsapp.account_key,
}
"""What channels authenticate with that is not among their fields."""


def answer_to(said: dict[str, Any], channel: str, secret: str) -> dict[str, Any]:
    """The agent's call that answers what it was sent."""
    found, path, content = CALLS[channel]
    chat: Any = said
    for name in found.split("."):
        chat = chat[int(name) if name.isdecimal() else name]
    fields = STAND_INS[channel].fields("", secret)
    token = fields.get("token") or fields.get("bot_token") or secret
    if channel in OWN_TOKENS:
        token = OWN_TOKENS[channel](secret)
    return {
        "method": "PUT" if channel == "matrix" else "POST",
        "url": "/" + path.format(chat=chat, secret=secret, token=token),
        "headers": {"Authorization": f"{'Bot' if channel == 'discord' else 'Bearer'} {token}"},
        "json": json.loads(json.dumps(content).replace("{chat}", str(chat))),
    }


@pytest.mark.parametrize("channel", CALLS)
async def test_an_agents_message_is_refused_or_cut_off(
    world: World, agent: Instance, channel: str
) -> None:
    mailbox = await world.feature(Messengers).mailbox(agent, channel)
    said = await mailbox.add("person", person="Ada", text="before")
    answer = answer_to(STAND_INS[channel].native(said, mailbox), channel, mailbox.secret)
    inject(world, agent, channel="slack" if channel == "line" else "line")
    inject(world, agent, channel=channel, retry_after_s=7)
    inject(world, agent, status=503)
    inject(world, agent, effect="cut")
    listener = bound_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/messengers/{channel}/{agent.id}/"
    async with (
        serve_relay(world.relay, [listener], routes=world.feature_hooks.relay_routes),
        httpx.AsyncClient(base_url=url, headers={"Host": RELAY_HOSTNAME}) as client,
    ):
        refused = await client.request(**answer)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")
        content = refused.json()
        assert (content["ok"], content["parameters"]) == (False, {"retry_after": 7})
        assert (content["error"], content["errcode"]) == ("ratelimited", "M_LIMIT_EXCEEDED")
        # Only what a person reads is refused.
        await mailbox.add_typing(person="Ada")
        assert (await client.request(**answer)).status_code == 503
        with pytest.raises(httpx.RemoteProtocolError):
            await client.request(**answer)
        accepted = await client.request(**answer)
        assert accepted.is_success, accepted.text
    assert texts(mailbox.messages) == ["before", None, "one"]


async def test_a_persons_message_comes_twice(
    world: World, agent: Instance, mailbox: Mailbox
) -> None:
    inject(world, agent, effect="twice")
    for text in ("one", "two"):
        await mailbox.add("person", person="Ada", text=text)
    found = await mailbox.undelivered(0)
    assert texts(found) == ["one", "one", "two"]
    await mailbox.mark_delivered(found[0].id)
    assert texts(await mailbox.undelivered(0)) == ["two"]


async def test_a_persons_message_comes_after_the_next_one(
    world: World, agent: Instance, mailbox: Mailbox
) -> None:
    inject(world, agent, effect="out_of_order")
    first = await mailbox.add("person", person="Ada", text="one")
    assert not await mailbox.undelivered(0)
    for text in ("two", "three"):
        await mailbox.add("person", person="Ada", text=text)
    assert texts(await mailbox.undelivered(0)) == ["two", "one", "three"]
    # Whoever has got the first has got the second before it.
    assert texts(await mailbox.undelivered(0, after=first.id)) == ["three"]
    await mailbox.mark_delivered(first.id)
    assert texts(await mailbox.undelivered(0)) == ["three"]


async def test_a_late_message_holds_those_after_it_back(
    world: World, agent: Instance, mailbox: Mailbox
) -> None:
    # Longer than the two take on a busy machine.
    inject(world, agent, delay_s=1.0)
    for text in ("one", "two"):
        await mailbox.add("person", person="Ada", text=text)
    assert not await mailbox.undelivered(0)
    assert texts(await mailbox.undelivered(60)) == ["one", "two"]


async def test_the_connection_ends_before_a_persons_message_which_comes_later(
    world: World, agent: Instance, mailbox: Mailbox
) -> None:
    inject(world, agent, effect="disconnect")
    await mailbox.add("person", person="Ada", text="one")
    with pytest.raises(ChannelFault):
        await mailbox.undelivered(0)
    assert texts(await mailbox.undelivered(0)) == ["one"]


async def test_matrix_has_no_list_of_what_is_undelivered_but_the_same_faults(
    world: World, agent: Instance
) -> None:
    matrix = await world.feature(Messengers).mailbox(agent, "matrix")

    async def synced(since: str) -> tuple[str, list[str]]:
        headers, query = {"authorization": f"Bearer {matrix.secret}"}, {"since": since}
        call = Call("GET", "_matrix/client/v3/sync", query, headers, {})
        reply = await world.feature(Messengers).reply("matrix", agent.id, call)
        assert reply is not None
        news = json.loads(reply.body)
        joined = news.get("rooms", {"join": {}})["join"].values()
        events = [each for room in joined for each in room["timeline"]["events"]]
        return news["next_batch"], [each["content"]["body"] for each in events]

    since, _ = await synced("")
    for effect in ("out_of_order", "twice"):
        inject(world, agent, effect=effect)
    inject(world, agent, delay_s=60)
    await matrix.add("person", person="Ada", text="one")
    assert await synced(since) == (since, [])
    sent = {"transaction_id": "t", "type": "m.room.message", "content": {"body": "by itself"}}
    await matrix.add("agent", person="Ada", text="by itself", payload=sent)
    for text in ("two", "three"):
        await matrix.add("person", person="Ada", text=text)
    since, bodies = await synced(since)
    assert bodies == ["two", "two", "one", "by itself"]
    assert await synced(since) == (since, [])


async def test_a_stream_of_events_and_a_websocket_end(world: World, agent: Instance) -> None:
    signal = await world.feature(Messengers).mailbox(agent, "signal")
    path = STAND_INS["signal"].fields("", signal.secret)["transport"]["url"]
    call = Call("GET", f"{path.lstrip('/')}/api/v1/events", {}, {}, {})
    inject(world, agent, effect="disconnect")
    await signal.add("person", person="Ada", text="one")
    for is_cut in (True, False):
        reply = await world.feature(Messengers).reply("signal", agent.id, call)
        assert reply is not None
        assert reply.events is not None
        async with aclosing(reply.events) as events:
            # The status goes out before the first event.
            assert await anext(events) == b""
            event = await anext(events, b"ended")
        assert event == b"ended" if is_cut else b'"one"' in event
    mattermost = await world.feature(Messengers).mailbox(agent, "mattermost")
    inject(world, agent, effect="disconnect")
    await mattermost.add("person", person="Ada", text="one")
    line = Line(STAND_INS["mattermost"].fields("", mattermost.secret)["bot_token"])
    call = Call("GET", "api/v4/websocket", {}, {}, {})
    await world.feature(Messengers).converse("mattermost", agent.id, call, line)
    assert not line.sent[1:]


class Line:
    """The agent's end of a WebSocket, which says nothing after its token."""

    def __init__(self, token: str) -> None:
        self.sent: list[str] = []
        self._said = [json.dumps({"seq": 1, "data": {"token": token}})]

    async def accept(self) -> None:
        """The connection needs nothing else."""

    def admit(self) -> None:
        """It may stay."""

    async def send(self, text: str) -> None:
        self.sent.append(text)

    async def receive(self) -> str:
        if not self._said:
            await asyncio.Event().wait()
        return self._said.pop()
