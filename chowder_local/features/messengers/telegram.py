"""A stand-in for Telegram's Bot API (https://core.telegram.org/bots/api)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.features.messengers import telegram_html
from chowder_local.features.messengers.mailbox import (
    WRITTEN,
    ChannelMessage,
    MessageKind,
    as_read,
    number_of,
)
from chowder_local.features.messengers.stand_in import (
    BOT_NAME,
    MENTION,
    Call,
    Reply,
    Socket,
    json_reply,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.telegram_html import Style

LONGEST_POLL_S = 25.0
BOT_ID = 123456
BOT = {
    "id": BOT_ID,
    "is_bot": True,
    "first_name": "Agent",
    "username": BOT_NAME,
    "can_join_groups": True,
    "can_read_all_group_messages": False,
    "supports_inline_queries": False,
}
MEDIA = ("photo", "document", "video", "audio", "voice", "animation", "sticker", "video_note")
TEXTS = {"sendmessage", "sendrichmessage", "editmessagetext"}
SENT = {"sendmessage", "sendrichmessage", "sendpoll", "sendlocation", "sendvenue", "sendcontact"}
SENT |= {f"send{each.replace('_', '')}" for each in MEDIA}
UNSEEN = {"setmycommands", "deletemycommands", "setwebhook", "deletewebhook", "editforumtopic"}
UNSEEN |= {"answercallbackquery", "unpinchatmessage", "sendmessagedraft", "logout", "close"}
"""The methods that change nothing of what a person reads here."""
MAX_CHARS = {"text": 4096, "caption": 1024}
"""Of what people read."""
MAX_SOURCE_BYTES = 32_768
MAX_ALBUM = 10
NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same "
    "as a current content and reply markup of the message"
)


class _Refused(Exception):
    def __init__(self, status: int, description: str) -> None:
        super().__init__(description)
        self.status = status


class Telegram:
    """Has one bot for each agent, and people and groups with numbers made of their names."""

    channel = "telegram"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {"token": bot_token(secret), "api_root": url, "group_policy": "open"}

    def sender(self, person: str) -> str:
        return str(number_of(person))

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return _native(message, mailbox)

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        try:
            is_file = call.path.startswith("file/")
            token, _, rest = call.path.removeprefix("file/").removeprefix("bot").partition("/")
            if not hmac.compare_digest(token.encode(), bot_token(mailbox.secret).encode()):
                raise _Refused(401, "Unauthorized")
            if is_file:
                return await _file(rest, mailbox)
            result = await _result(rest, {**call.query, **call.form}, mailbox)
        except _Refused as refused:
            body = {"ok": False, "error_code": refused.status, "description": str(refused)}
            return json_reply(body, refused.status)
        return json_reply({"ok": True, "result": result})

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """Telegram has no WebSockets."""


def bot_token(secret: str) -> str:
    return f"{BOT_ID}:{secret[:35]}"


async def _result(method: str, form: dict[str, Any], mailbox: Mailbox) -> Any:
    name = method.lower()
    if name == "getme":
        return BOT
    if name == "getupdates":
        return await _updates(form, mailbox)
    if name == "getfile":
        number = _number(form.get("file_id"))
        return {"file_id": str(number), "file_unique_id": str(number), "file_path": str(number)}
    if name in {"getchat", "getchatmember"}:
        return _chat_of(form, mailbox)
    if name == "getwebhookinfo":
        return {"url": "", "has_custom_certificate": False, "pending_update_count": 0}
    if name in SENT:
        return await _sent(name, form, mailbox)
    if name == "sendmediagroup":
        return await _album(form, mailbox)
    if name in {"editmessagetext", "editmessagecaption", "editmessagereplymarkup"}:
        return await _edited(name, form, mailbox)
    return await _other(name, form, mailbox)


async def _other(name: str, form: dict[str, Any], mailbox: Mailbox) -> bool:
    if name == "sendchataction":
        await mailbox.add_typing(**_place(form, mailbox))
    elif name == "deletemessage":
        message = _message("delete", form, mailbox)
        place = _place(form, mailbox)
        kind = MessageKind.DELETION
        await mailbox.add("agent", kind=kind, of=message.id, payload=form, **place)
    elif name == "setmessagereaction":
        message = _message("react", form, mailbox)
        reactions = untrusted_json.objects_of(form.get("reaction"))
        await mailbox.add(
            "agent",
            kind=MessageKind.REACTION,
            text="".join(untrusted_json.text_of(each.get("emoji")) for each in reactions),
            of=message.id,
            payload=form,
            **_place(form, mailbox),
        )
    elif name == "pinchatmessage":
        _message("pin", form, mailbox)
    elif name == "createforumtopic":
        # The bot is a member, and no administrator.
        raise _Refused(400, "Bad Request: not enough rights to create a topic")
    elif name not in UNSEEN:
        raise _Refused(404, "Not Found")
    return True


async def _updates(form: dict[str, Any], mailbox: Mailbox) -> list[dict[str, Any]]:
    offset = _number(form.get("offset") or 0)
    if offset > 0:
        # Telegram takes an offset for the receipt of all before it.
        await mailbox.mark_delivered(offset - 1)
    wait_s = min(float(_number(form.get("timeout") or 0)), LONGEST_POLL_S)
    return [
        {"update_id": each.id, "message": _native(each, mailbox)}
        for each in await mailbox.undelivered(wait_s)
    ]


async def _sent(name: str, form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    key = "text" if name in TEXTS else "caption"
    text = _formatted(key, form)[0] if key == "text" or key in form else None
    image_type = next((each for each in MEDIA if each in form), None)
    place = _place(form, mailbox)
    message = await mailbox.add("agent", text=text, image_type=image_type, payload=form, **place)
    return _native(message, mailbox)


async def _album(form: dict[str, Any], mailbox: Mailbox) -> list[dict[str, Any]]:
    media = form.pop("media", None)
    try:
        media = untrusted_json.read_encodable(media.encode()) if isinstance(media, str) else media
    except ValueError:
        raise _Refused(400, "Bad Request: can't parse media JSON object") from None
    items = untrusted_json.objects_of(media)
    if len(items) > MAX_ALBUM:
        raise _Refused(400, "Bad Request: too many messages to send as an album")
    forms = [
        {**form, **each, untrusted_json.text_of(each.get("type")): each.get("media")}
        for each in items
    ]
    return [await _sent("sendmediagroup", each, mailbox) for each in forms]


async def _edited(name: str, form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    message = _message("edit", form, mailbox)
    if message.author == "person":
        raise _Refused(400, "Bad Request: message can't be edited")
    if name == "editmessagereplymarkup":
        return _native(message, mailbox)
    key = "text" if name in TEXTS else "caption"
    is_text = message.image_type is None and message.text is not None
    if is_text is not (key == "text"):
        raise _Refused(400, f"Bad Request: there is no {key} in the message to edit")
    text, styles = _formatted(key, form)
    versions = (each for each in reversed(mailbox.messages) if message.id in (each.id, each.of))
    latest = next(each for each in versions if each.kind in WRITTEN).payload
    # A long payload is not kept.
    is_same = latest and _formatted(key, latest) == (text, styles)
    if is_same and form.get("reply_markup") == latest.get("reply_markup"):
        raise _Refused(400, f"Bad Request: {NOT_MODIFIED}")
    place = _place(form, mailbox)
    kind = MessageKind.EDIT
    edit = await mailbox.add("agent", kind=kind, text=text, of=message.id, payload=form, **place)
    return _native(edit, mailbox, number=message.id)


def _message(deed: str, form: dict[str, Any], mailbox: Mailbox) -> ChannelMessage:
    """The message that a call names, as it is shown."""
    place, number = _place(form, mailbox), _number(form.get("message_id"))
    shown = next((each for each in as_read(mailbox.messages) if each.id == number), None)
    if shown is None or shown.chat != (place.get("group"), place["person"]):
        raise _Refused(400, f"Bad Request: message to {deed} not found")
    return shown


def _formatted(key: str, form: Mapping[str, Any]) -> tuple[str, list[Style]]:
    """The text or the caption of a call as people read it, and its styles."""
    if "rich_message" in form:
        return _rich_text(form["rich_message"]), []
    text = untrusted_json.text_of(form.get(key))
    styles: list[Style] = []
    if key == "text" and not text:
        raise _Refused(400, "Bad Request: message text is empty")
    if len(text.encode()) > MAX_SOURCE_BYTES:
        raise _Refused(400, "Bad Request: text is too long")
    mode = untrusted_json.text_of(form.get("parse_mode")).lower()
    if mode == "html":
        try:
            text, styles = telegram_html.parse(text)
        except ValueError as wrong:
            raise _Refused(400, f"Bad Request: can't parse entities: {wrong}") from None
    elif mode not in {"", "markdown", "markdownv2"}:
        raise _Refused(400, "Bad Request: unsupported parse_mode")
    text = text.rstrip()
    if key == "text" and not text:
        raise _Refused(400, "Bad Request: text must be non-empty")
    if len(text) > MAX_CHARS[key]:
        what = "message" if key == "text" else "message caption"
        raise _Refused(400, f"Bad Request: {what} is too long")
    return text, styles


def _rich_text(content: Any) -> str:
    """The text of a rich message, a line for each of its blocks."""
    if isinstance(content, list):
        return "".join(map(_rich_text, content))
    if not isinstance(content, dict):
        return untrusted_json.text_of(content)
    lines = [_rich_text(content[key]) for key in ("summary", "text", "caption") if key in content]
    for part in (content.get(key) for key in ("blocks", "items", "cells")):
        lines += [_rich_text(each) for each in part] if isinstance(part, list) else []
    return "\n".join(lines)


async def _file(path: str, mailbox: Mailbox) -> Reply:
    number = _number(path)
    message = mailbox.find(number)
    image = await mailbox.image(number)
    if message is None or image is None:
        raise _Refused(404, "Not Found")
    return Reply(200, image, message.image_type or "application/octet-stream")


def _place(form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    """The person or group of a call's chat."""
    chat = str(_number(form.get("chat_id")))
    if chat.startswith("-"):
        group = mailbox.group_of(_group_id, chat)
        thread = None
        if (topic := form.get("message_thread_id")) is not None:
            threads = (each.thread for each in reversed(mailbox.messages) if each.thread)
            thread = next((each for each in threads if number_of(each) == _number(topic)), None)
            if thread is None:
                raise _Refused(400, "Bad Request: message thread not found")
        place = {"person": None, "group": group, "thread": thread}
    else:
        place = {"person": mailbox.person_of(lambda name: str(number_of(name)), chat)}
    if not any(place.values()):
        raise _Refused(400, "Bad Request: chat not found")
    return place


def _chat_of(form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    place = _place(form, mailbox)
    chat = _chat(place["person"], place.get("group"), has_topics=False)
    if "user_id" in form:
        return {"status": "member", "user": {"id": _number(form["user_id"]), "is_bot": False}}
    return chat


def _group_id(name: str) -> str:
    return str(-1_000_000_000_000 - number_of(name))


def _chat(person: str | None, group: str | None, *, has_topics: bool) -> dict[str, Any]:
    if group is not None:
        chat = {"id": int(_group_id(group)), "type": "supergroup", "title": group}
        return {**chat, "is_forum": True} if has_topics else chat
    name = person or ""
    return {"id": number_of(name), "type": "private", "first_name": name}


def _native(message: ChannelMessage, mailbox: Mailbox, number: int | None = None) -> dict[str, Any]:
    """A message as Telegram has it."""
    native: dict[str, Any] = {
        "message_id": number or message.id,
        "date": int(message.at.timestamp()),
        "chat": _chat(message.person, message.group, has_topics=message.thread is not None),
    }
    if message.author == "agent":
        native["from"] = BOT
    else:
        name = message.person or ""
        native["from"] = {"id": number_of(name), "is_bot": False, "first_name": name}
    if message.thread is not None:
        native |= {"message_thread_id": number_of(message.thread), "is_topic_message": True}
    text, key = message.text or "", "text"
    if message.image_type is not None and message.author == "person":
        key = "caption"
        size = {"width": 1, "height": 1, "file_unique_id": str(message.id)}
        native["photo"] = [{"file_id": str(message.id), **size}]
    if text:
        native[key] = text
        if (at := text.find(MENTION)) >= 0:
            # Telegram counts in units of UTF-16.
            offset = len(text[:at].encode("utf-16-le")) // 2
            entities = [{"type": "mention", "offset": offset, "length": len(MENTION)}]
            native["entities" if key == "text" else "caption_entities"] = entities
    return native


def _number(value: Any) -> int:
    try:
        return int(str(value)[:20])
    except ValueError:
        raise _Refused(400, "Bad Request: a number was expected") from None
