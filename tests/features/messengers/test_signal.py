"""What stands in for signal-cli's daemon, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import base64
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers.mailbox import MessageKind
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.signal import ACCOUNT, Signal
from chowder_local.features.messengers.stand_in import Call

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

SIGNAL = Signal()
ADA = SIGNAL.sender("Ada")


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "signal"
    )


async def call(
    mailbox: Mailbox, method: str, path: str, form: dict[str, Any] | None = None
) -> Reply:
    secret = f"{mailbox.secret}/"
    return await SIGNAL.reply(Call(method, secret + path, {}, {}, form or {}), mailbox)


async def rpc(mailbox: Mailbox, method: str, **params: Any) -> dict[str, Any]:
    form = {"jsonrpc": "2.0", "id": "7", "method": method, "params": params}
    reply = await call(mailbox, "POST", "api/v1/rpc", form)
    content: dict[str, Any] = json.loads(reply.body)
    assert (reply.status, content["jsonrpc"], content["id"]) == (200, "2.0", "7")
    return content


async def next_envelopes(mailbox: Mailbox, count: int) -> list[dict[str, Any]]:
    """The next messages of a stream of events, which is closed then."""
    events = (await call(mailbox, "GET", "api/v1/events")).events
    assert events is not None
    envelopes: list[dict[str, Any]] = []
    async with aclosing(events):
        async for event in events:
            kind, _, data = event.decode().strip().partition("\n")
            assert kind == "event: receive"
            envelopes.append(json.loads(data.removeprefix("data: "))["envelope"])
            if len(envelopes) == count:
                break
    return envelopes


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    first = await mailbox.add("person", person="Ada", text="Hello")
    second = await mailbox.add("person", person="Ada", text="Hello?")
    one, two = await next_envelopes(mailbox, 2)
    assert (one["sourceNumber"], one["sourceName"]) == (ADA, "Ada")
    assert (one["dataMessage"]["message"], two["dataMessage"]["message"]) == ("Hello", "Hello?")
    # OpenClaw takes two messages of one person and time for the same.
    assert one["timestamp"] != two["timestamp"]

    await rpc(mailbox, "sendTyping", recipient=[ADA])
    await rpc(mailbox, "sendTyping", recipient=[ADA], stop=True)
    sent = await rpc(mailbox, "send", recipient=[ADA], message="Hi", account=ACCOUNT)
    target = {"targetTimestamp": one["timestamp"], "targetAuthor": ADA, "recipients": [ADA]}
    await rpc(mailbox, "sendReaction", emoji="👍", **target)
    typing, answer, reaction = mailbox.after(second.id)
    assert sent["result"]["timestamp"] > two["timestamp"]
    assert (typing.kind, typing.person) == (MessageKind.TYPING, "Ada")
    assert (answer.kind, answer.text, answer.person) == (MessageKind.MESSAGE, "Hi", "Ada")
    assert (reaction.kind, reaction.text, reaction.of) == (MessageKind.REACTION, "👍", first.id)


async def test_a_stream_that_breaks_off_loses_nothing(mailbox: Mailbox) -> None:
    for text in ("One", "Two"):
        await mailbox.add("person", person="Ada", text=text)
    (one,) = await next_envelopes(mailbox, 1)
    assert [each.is_delivered for each in mailbox.messages] == [False, False]
    again, two, _ = [
        *await next_envelopes(mailbox, 2),
        await mailbox.add("person", person="Ada", text="Three"),
    ]
    assert (again["timestamp"], two["dataMessage"]["message"]) == (one["timestamp"], "Two")
    assert (await next_envelopes(mailbox, 3))[-1]["dataMessage"]["message"] == "Three"


async def test_only_the_latest_stream_gets_messages(mailbox: Mailbox) -> None:
    former = (await call(mailbox, "GET", "api/v1/events")).events
    assert former is not None
    await mailbox.add("person", person="Ada", text="One")
    await anext(former)
    await next_envelopes(mailbox, 1)
    await mailbox.add("person", person="Ada", text="Two")
    assert [each async for each in former] == []


async def test_a_stopping_server_ends_its_streams(mailbox: Mailbox) -> None:
    events = (await call(mailbox, "GET", "api/v1/events")).events
    assert events is not None
    mailbox.shutdown.begin()
    assert [each async for each in events] == []


async def test_a_mention_in_a_group_is_one_of_signals(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", group="Team", text="😀 @agent_bot: hello")
    (envelope,) = await next_envelopes(mailbox, 1)
    data = envelope["dataMessage"]
    assert data["message"] == "😀 \ufffc: hello"
    (mention,) = data["mentions"]
    assert (mention["number"], mention["start"], mention["length"]) == (ACCOUNT, 3, 1)
    assert data["groupInfo"]["groupName"] == "Team"
    await rpc(mailbox, "send", groupId=data["groupInfo"]["groupId"], message="Hi all")
    assert (mailbox.messages[-1].group, mailbox.messages[-1].person) == ("Team", None)


async def test_pictures_go_both_ways_as_far_as_signal_cli_has_them(mailbox: Mailbox) -> None:
    await mailbox.add("person", b"\x89PNG", person="Ada", image_type="image/png")
    (envelope,) = await next_envelopes(mailbox, 1)
    (attachment,) = envelope["dataMessage"]["attachments"]
    assert attachment["contentType"] == "image/png"
    fetched = await rpc(mailbox, "getAttachment", id=attachment["id"], recipient=ADA)
    assert base64.b64decode(fetched["result"]["data"]) == b"\x89PNG"
    await rpc(mailbox, "send", recipient=[ADA], attachments=["/data/plot.png"])
    assert mailbox.messages[-1].image_type == "image/png"


async def test_a_call_without_the_secret_is_refused(mailbox: Mailbox) -> None:
    for path in ("api/v1/events", "other/api/v1/events", "é/api/v1/check", ""):
        reply = await SIGNAL.reply(Call("GET", path, {}, {}, {}), mailbox)
        assert (reply.status, reply.events) == (401, None)
    assert (await call(mailbox, "GET", "api/v1/check")).status == 200
    assert (await call(mailbox, "GET", "api/v1/other")).status == 404


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("listGroups", {}, -32601),
        ("send", {"recipient": ["+10000000000"], "message": "Hi"}, -1),
        ("send", {"recipient": {"a": []}, "message": "Hi"}, -1),
        ("send", {"groupId": "bm9uZQ==", "message": "Hi"}, -1),
        ("send", {"recipient": [ADA], "message": 5, "attachments": [None]}, -32602),
        ("sendReaction", {"recipients": [ADA], "targetTimestamp": "soon"}, -32602),
        ("getAttachment", {"id": {}}, -32602),
        ("getAttachment", {"id": 10**19}, -1),
    ],
)
async def test_what_cannot_be_done_is_refused_as_signal_cli_does(
    mailbox: Mailbox, method: str, params: dict[str, Any], code: int
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    assert (await rpc(mailbox, method, **params))["error"]["code"] == code
    assert len(mailbox.messages) == 1


async def test_what_is_no_call_is_refused(mailbox: Mailbox) -> None:
    for form in ({}, {"jsonrpc": "2.0", "method": [], "params": 3}, {"method": "version"}):
        reply = await call(mailbox, "POST", "api/v1/rpc", form)
        assert json.loads(reply.body)["error"]["code"] in {-32600, -32601}
