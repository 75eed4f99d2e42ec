"""What stands in for WhatsApp, as the program in the sandbox and a hostile agent call it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers.mailbox import MessageKind
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import Call, parse_object
from chowder_local.features.messengers.whatsapp import Whatsapp, account_key
from chowder_local.openclaw.channel_table import is_local

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

WHATSAPP = Whatsapp()
ADA = WHATSAPP.sender("Ada").removeprefix("+")


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "whatsapp"
    )


async def reply(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Reply:
    path, _, query = path.partition("?")
    parameters = dict(each.split("=") for each in query.split("&") if each)
    headers = {"authorization": f"Bearer {account_key(mailbox.secret)}"}
    body = b"" if content is None else json.dumps(content).encode()
    call = Call(method, path, parameters, headers, parse_object(body), body)
    return await WHATSAPP.reply(call, mailbox)


async def fetch(mailbox: Mailbox, after: int = 0) -> list[dict[str, Any]]:
    answered = await reply(mailbox, "GET", f"messages?after={after}")
    messages: list[dict[str, Any]] = json.loads(answered.body)["messages"]
    return messages


async def tell(mailbox: Mailbox, event: Any) -> None:
    assert (await reply(mailbox, "POST", "events", event)).status == 200


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    said = await mailbox.add("person", person="Ada", text="Hello")
    await mailbox.add("person", person="Ben", text="Hi")
    first, second = await fetch(mailbox)
    assert (first["senderJid"], first["text"], first["pushName"]) == (
        f"{ADA}@s.whatsapp.net", "Hello", "Ada"
    )  # fmt: skip
    assert await fetch(mailbox, after=first["number"]) == [second]
    await tell(mailbox, {"tag": "receipt", "attrs": {"id": first["messageId"], "type": "read"}})
    assert await fetch(mailbox) == [second]

    # The agent may call a person by another kind of id.
    typing = [{"tag": "composing", "attrs": {}}]
    await tell(mailbox, {"tag": "chatstate", "attrs": {"to": f"{ADA}@lid"}, "content": typing})
    await tell(mailbox, {"tag": "chatstate", "attrs": {"to": f"{ADA}@lid"}, "content": []})
    await tell(
        mailbox,
        {"key": {"remoteJid": f"{ADA}:0@lid"}, "message": {"conversation": "Hello, Ada"}},
    )
    (answer,) = await mailbox.answers_to(said, wait_s=0.1)
    assert (answer.person, answer.text) == ("Ada", "Hello, Ada")
    assert mailbox.messages[2].kind is MessageKind.TYPING


async def test_what_is_no_text_is_seen_as_such(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    for kind in ("reaction", "media"):
        await tell(mailbox, {"tag": "message", "attrs": {"to": f"{ADA}@lid", "type": kind}})
    reaction, picture = list(mailbox.messages)[1:]
    assert (reaction.kind, picture.kind) == (MessageKind.REACTION, MessageKind.MESSAGE)
    assert picture.image_type is not None


@pytest.mark.parametrize(
    "event",
    [
        None,
        {"tag": [], "attrs": 3},
        {"tag": "receipt", "attrs": {"id": {}}},
        {"tag": "receipt", "attrs": {"id": "LOCAL²"}},
        {"tag": "chatstate", "attrs": {"to": ["x"]}, "content": {}},
        {"key": {"remoteJid": "1@s.whatsapp.net"}, "message": {"conversation": "Hi"}},
        {"key": {"remoteJid": {}}, "message": {"conversation": ["Hi"]}},
    ],
)
async def test_an_event_of_nobody_is_left_out(mailbox: Mailbox, event: Any) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    await tell(mailbox, event)
    assert [each.is_delivered for each in mailbox.messages] == [False]


async def test_an_unknown_call_is_refused(mailbox: Mailbox) -> None:
    assert (await reply(mailbox, "GET", "events")).status == 404
    for headers in ({}, {"authorization": "Bearer \ud800"}, {"authorization": "Bearer x"}):
        call = Call("GET", "messages", {}, headers, {})
        assert (await WHATSAPP.reply(call, mailbox)).status == 401


def test_an_agents_account_is_always_the_same() -> None:
    files = WHATSAPP.fields("http://relay.local:1/", "secret")["files"]
    assert files == WHATSAPP.fields("http://relay.local:1/", "secret")["files"]
    (content,) = files.values()
    account = json.loads(content)
    assert account["advSecretKey"] == account_key("secret")
    noise = account["noiseKey"]
    private, public = (base64.b64decode(noise[each]["data"]) for each in ("private", "public"))
    key = X25519PrivateKey.from_private_bytes(private)
    assert key.public_key().public_bytes_raw() == public


def test_its_section_marks_the_agent_as_connected_to_this_machine() -> None:
    assert is_local(WHATSAPP.fields("http://relay.local:1/", "secret")["accounts"])
