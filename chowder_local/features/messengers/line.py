"""A stand-in for LINE's Messaging API (https://developers.line.biz/en/reference/messaging-api)."""

from __future__ import annotations

import base64
import hmac
import json
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.features.messengers.mailbox import number_of
from chowder_local.features.messengers.stand_in import (
    BOT_NAME,
    MENTION,
    Call,
    Reply,
    Socket,
    Webhook,
    json_reply,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

API_HOST = "api.line.me"
DATA_HOST = "api-data.line.me"
MAX_MESSAGES = 5
MAX_TEXT_CHARS = 5000
MAX_USED_TOKENS = 1000
MEDIA = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/mp4"}


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Line:
    """Has one official account for each agent; ids of people and groups are made of names.

    The plugin calls LINE's own hosts, from where the sandbox forwards it to here.
    """

    channel = "line"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {
            "channel_access_token": secret,
            "channel_secret": channel_secret(secret),
            "group_policy": "open",
            # LINE's address is not among the settings: this is where the sandbox finds it.
            "name": url,
        }

    def sender(self, person: str) -> str:
        return _id("U", person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return {"destination": BOT_ID, "events": [_event(message)]}

    async def webhook(self, message: ChannelMessage, mailbox: Mailbox, now: datetime) -> Webhook:
        body = json.dumps(self.native(message, mailbox), ensure_ascii=False).encode()
        key = channel_secret(mailbox.secret).encode()
        signature = base64.b64encode(hmac.digest(key, body, "sha256")).decode()
        return Webhook("/line/webhook", {"X-Line-Signature": signature}, body)

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        try:
            token = call.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(token.encode("utf-8", "replace"), mailbox.secret.encode()):
                raise _Refused(
                    401,
                    "Authentication failed. Confirm that the access token in the authorization "
                    "header is valid.",
                )
            host, _, path = call.path.partition("/")
            if host == DATA_HOST:
                return await _content(path.split("/"), mailbox)
            return json_reply(await _result(call, path.split("/"), mailbox))
        except _Refused as refused:
            return json_reply({"message": str(refused)}, refused.status)

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """LINE has no WebSockets."""


def channel_secret(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()[:32]


def _event(message: ChannelMessage) -> dict[str, Any]:
    source = {"type": "user", "userId": _id("U", message.person or "")}
    if message.group is not None:
        source |= {"type": "group", "groupId": _id("C", message.group)}
    if message.image_type is not None:
        content: dict[str, Any] = {"type": "image", "contentProvider": {"type": "line"}}
    else:
        content = _text_content(message.text or "")
    return {
        "type": "message",
        "mode": "active",
        "timestamp": int(message.at.timestamp() * 1000),
        "webhookEventId": f"{message.id:026d}",
        "deliveryContext": {"isRedelivery": False},
        "source": source,
        "replyToken": f"r{message.id}",
        "message": {"id": str(message.id), "quoteToken": f"q{message.id}", **content},
    }


def _text_content(text: str) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "text", "text": text}
    if (at := text.find(MENTION)) >= 0:
        # LINE counts in units of UTF-16.
        index = len(text[:at].encode("utf-16-le")) // 2
        place = {"index": index, "length": len(MENTION), "type": "user"}
        content["mention"] = {"mentionees": [{**place, "userId": BOT_ID, "isSelf": True}]}
    return content


async def _result(call: Call, path: list[str], mailbox: Mailbox) -> dict[str, Any]:
    match (call.method, *path):
        case ("GET", "v2", "bot", "info"):
            names = {"basicId": f"@{BOT_NAME}", "displayName": BOT_NAME}
            return {"userId": BOT_ID, **names, "chatMode": "bot", "markAsReadMode": "auto"}
        case ("GET", "v2", "bot", "channel", "webhook", "endpoint"):
            return {"endpoint": "https://agent.invalid/line/webhook", "active": True}
        case ("GET", "v2", "bot", "profile", user) | (
            "GET", "v2", "bot", "group", _, "member", user,
        ):  # fmt: skip
            person = mailbox.person_of(lambda name: _id("U", name), user)
            if person is None:
                raise _not_found()
            return {"displayName": person, "userId": user}
        case ("GET", "v2", "bot", "group", group, "summary"):
            name = mailbox.group_of(lambda name: _id("C", name), group)
            if name is None:
                raise _not_found()
            return {"groupId": group, "groupName": name}
        case ("POST", "v2", "bot", "message", "push"):
            return await _send(call.form, _place(call.form.get("to"), mailbox), mailbox)
        case ("POST", "v2", "bot", "message", "reply"):
            return await _send(call.form, _answered(call.form.get("replyToken"), mailbox), mailbox)
        case ("POST", "v2", "bot", "chat", "loading", "start"):
            await mailbox.add_typing(**_place(call.form.get("chatId"), mailbox))
            return {}
        case _:
            raise _not_found()


async def _send(form: Mapping[str, Any], place: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    messages = untrusted_json.objects_of(form.get("messages"))
    if not 0 < len(messages) <= MAX_MESSAGES:
        raise _Refused(400, f"Size must be between 1 and {MAX_MESSAGES}")
    contents = [_read(each) for each in messages]
    sent = [
        await mailbox.add("agent", payload=native, **content, **place)
        for native, content in zip(messages, contents, strict=True)
    ]
    return {"sentMessages": [{"id": str(each.id), "quoteToken": f"q{each.id}"} for each in sent]}


def _read(native: dict[str, Any]) -> dict[str, Any]:
    """The text and the type of the file of a message."""
    kind = untrusted_json.text_of(native.get("type"))
    if kind in MEDIA:
        url = untrusted_json.text_of(native.get("originalContentUrl"))
        return {"text": url or None, "image_type": MEDIA[kind]}
    if kind == "location":
        parts = (untrusted_json.text_of(native.get(each)) for each in ("title", "address"))
        return {"text": "\n".join(parts)}
    text = untrusted_json.text_of(native.get("text") or native.get("altText"))
    if not text:
        raise _Refused(400, "May not be empty")
    # It counts in units of UTF-16, too.
    if len(text.encode("utf-16-le", "replace")) // 2 > MAX_TEXT_CHARS:
        raise _Refused(400, f"Length must be between 0 and {MAX_TEXT_CHARS}")
    return {"text": text}


async def _content(path: list[str], mailbox: Mailbox) -> Reply:
    match path:
        case ["v2", "bot", "message", number, "content"]:
            message = mailbox.find(_number(number))
            image = None if message is None else await mailbox.image(message.id)
            if message is not None and image is not None:
                return Reply(200, image, message.image_type or "")
    raise _not_found()


def _place(target: Any, mailbox: Mailbox) -> dict[str, Any]:
    """The person or group with an id."""
    number = untrusted_json.text_of(target)
    group = mailbox.group_of(lambda name: _id("C", name), number)
    person = mailbox.person_of(lambda name: _id("U", name), number)
    if group is None and person is None:
        raise _Refused(400, "The property, 'to', in the request body is invalid")
    return {"person": None if group else person, "group": group}


def _answered(token: Any, mailbox: Mailbox) -> dict[str, Any]:
    """Where the message was written that a reply token is of. A token can be used once."""
    text = untrusted_json.text_of(token)
    message = mailbox.find(_number(text[1:]))
    used: deque[str] = mailbox.state.setdefault("used", deque(maxlen=MAX_USED_TOKENS))
    if message is None or message.author == "agent" or text in used:
        raise _Refused(400, "Invalid reply token")
    used.append(text)
    return {"person": None if message.group else message.person, "group": message.group}


def _not_found() -> _Refused:
    return _Refused(404, "Not found")


def _id(kind: str, name: str) -> str:
    return f"{kind}{number_of(name, 62):032x}"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


BOT_ID = _id("U", BOT_NAME)
