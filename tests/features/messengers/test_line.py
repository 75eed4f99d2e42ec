"""What stands in for LINE's Messaging API, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers.line import Line, channel_secret
from chowder_local.features.messengers.mailbox import MessageKind
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import Call, parse_object

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

LINE = Line()
ADA = LINE.sender("Ada")
PNG = b"\x89PNG\r\n"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "line"
    )


async def reply(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Reply:
    body = b"" if content is None else json.dumps(content).encode()
    headers = {"authorization": f"Bearer {mailbox.secret}"}
    return await LINE.reply(Call(method, path, {}, headers, parse_object(body), body), mailbox)


async def api(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Any:
    answered = await reply(mailbox, method, f"api.line.me/v2/bot/{path}", content)
    assert answered.status == 200, answered.body
    return json.loads(answered.body)


async def events(mailbox: Mailbox, message: ChannelMessage) -> list[dict[str, Any]]:
    """What the agent is sent about a message, with LINE's signature."""
    webhook = await LINE.webhook(message, mailbox, NOW)
    key = LINE.fields(mailbox.url, mailbox.secret)["channel_secret"].encode()
    expected = base64.b64encode(hmac.digest(key, webhook.body, "sha256")).decode()
    assert webhook.headers == {"X-Line-Signature": expected}
    found: list[dict[str, Any]] = json.loads(webhook.body)["events"]
    return found


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    question = await mailbox.add("person", person="Ada", text="Hello")
    (event,) = await events(mailbox, question)
    assert (event["source"], event["message"]["text"]) == (
        {"type": "user", "userId": ADA},
        "Hello",
    )
    assert (await api(mailbox, "GET", f"profile/{ADA}"))["displayName"] == "Ada"

    typing = {"chatId": ADA, "loadingSeconds": 20}
    await api(mailbox, "POST", "chat/loading/start", typing)
    texts = [{"type": "text", "text": text} for text in ("Hi", "there")]
    answer = {"replyToken": event["replyToken"], "messages": texts}
    assert len((await api(mailbox, "POST", "message/reply", answer))["sentMessages"]) == 2
    # A reply token can be used once; the plugin then pushes.
    assert (await reply(mailbox, "POST", "api.line.me/v2/bot/message/reply", answer)).status == 400
    await api(mailbox, "POST", "message/push", {"to": ADA, "messages": texts[:1]})
    said = mailbox.after(question.id)
    assert [each.kind for each in said] == [MessageKind.TYPING, *[MessageKind.MESSAGE] * 3]
    assert [(each.person, each.text) for each in said[1:]] == [
        ("Ada", "Hi"),
        ("Ada", "there"),
        ("Ada", "Hi"),
    ]


async def test_a_mention_in_a_group_is_counted_in_units_of_utf_16(mailbox: Mailbox) -> None:
    message = await mailbox.add("person", person="Ben", group="Team", text="😀 @agent_bot Hi")
    (event,) = await events(mailbox, message)
    (mention,) = event["message"]["mention"]["mentionees"]
    assert (mention["index"], mention["length"], mention["isSelf"]) == (3, 10, True)
    group = event["source"]["groupId"]
    assert (await api(mailbox, "GET", f"group/{group}/summary"))["groupName"] == "Team"
    member = f"group/{group}/member/{LINE.sender('Ben')}"
    assert (await api(mailbox, "GET", member))["displayName"] == "Ben"
    texts = [{"type": "text", "text": "Hi"}]
    await api(mailbox, "POST", "message/push", {"to": group, "messages": texts})
    assert (mailbox.messages[-1].person, mailbox.messages[-1].group) == (None, "Team")


async def test_a_picture_is_fetched_by_its_number(mailbox: Mailbox) -> None:
    message = await mailbox.add("person", PNG, person="Ada", text="", image_type="image/png")
    (event,) = await events(mailbox, message)
    assert event["message"]["type"] == "image"
    number = event["message"]["id"]
    content = await reply(mailbox, "GET", f"api-data.line.me/v2/bot/message/{number}/content")
    assert (content.body, content.content_type) == (PNG, "image/png")


async def test_what_is_no_text_is_shown_as_what_it_stands_for(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    natives = [
        {"type": "flex", "altText": "A card", "contents": {}},
        {"type": "image", "originalContentUrl": "https://a.example/1.jpg"},
        {"type": "location", "title": "Here", "address": "There"},
    ]
    await api(mailbox, "POST", "message/push", {"to": ADA, "messages": natives})
    assert [(each.text, each.image_type) for each in mailbox.after(1)[-3:]] == [
        ("A card", None),
        ("https://a.example/1.jpg", "image/jpeg"),
        ("Here\nThere", None),
    ]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("message/push", {"to": ADA}, 400),
        ("message/push", {"to": ADA, "messages": [{"type": "text", "text": "a"}] * 6}, 400),
        ("message/push", {"to": ADA, "messages": [{"type": "text", "text": "a" * 5001}]}, 400),
        ("message/push", {"to": ADA, "messages": [{"type": "text", "text": ["a"]}]}, 400),
        ("message/push", {"to": "U0", "messages": [{"type": "text", "text": "a"}]}, 400),
        ("message/push", {"to": ["U0"], "messages": [{"type": "text", "text": "a"}]}, 400),
        ("message/reply", {"replyToken": "r²", "messages": [{"type": "text"}]}, 400),
        ("message/reply", {"replyToken": f"r{'9' * 5000}", "messages": []}, 400),
        ("chat/loading/start", {}, 400),
        ("message/nonsense", {}, 404),
    ],
)
async def test_what_line_would_refuse_is_refused(
    mailbox: Mailbox, path: str, content: Any, status: int
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    answered = await reply(mailbox, "POST", f"api.line.me/v2/bot/{path}", content)
    assert answered.status == status
    assert json.loads(answered.body)["message"]
    assert len(mailbox.messages) == 1


async def test_another_token_is_refused(mailbox: Mailbox) -> None:
    call = Call("GET", "api.line.me/v2/bot/info", {}, {"authorization": "Bearer é"}, {})
    assert (await LINE.reply(call, mailbox)).status == 401
    assert channel_secret(mailbox.secret) != mailbox.secret
    assert (await api(mailbox, "GET", "info"))["userId"].startswith("U")
    # Without it, the plugin says that its webhook is not set up.
    assert (await api(mailbox, "GET", "channel/webhook/endpoint"))["active"]
    missing = await reply(mailbox, "GET", "api-data.line.me/v2/bot/message/12/content")
    assert missing.status == 404
