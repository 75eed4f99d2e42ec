"""A stand-in for Telegram's Bot API (https://core.telegram.org/bots/api)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.messengers.mailbox import ChannelMessage, MessageKind, number_of
from chowder_local.messengers.stand_in import BOT_NAME, MENTION, Call, Reply, Socket, json_reply

if TYPE_CHECKING:
    from chowder_local.messengers.mailbox import Mailbox

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
    if name.startswith("send") and name not in {"sendchataction", "sendmessagedraft"}:
        return await _sent(form, mailbox)
    return await _other(name, form, mailbox)


async def _other(name: str, form: dict[str, Any], mailbox: Mailbox) -> Any:
    if name == "sendchataction":
        await mailbox.add_typing(**_place(form, mailbox))
    elif name in {"editmessagetext", "editmessagecaption"}:
        message = await mailbox.add(
            "agent",
            kind=MessageKind.EDIT,
            text=untrusted_json.text_of(form.get("text") or form.get("caption")),
            of=_number(form.get("message_id")),
            payload=form,
            **_place(form, mailbox),
        )
        return _native(message, mailbox, number=_number(form.get("message_id")))
    elif name == "deletemessage":
        await mailbox.add(
            "agent",
            kind=MessageKind.DELETION,
            of=_number(form.get("message_id")),
            payload=form,
            **_place(form, mailbox),
        )
    elif name == "setmessagereaction":
        reactions = untrusted_json.objects_of(form.get("reaction"))
        await mailbox.add(
            "agent",
            kind=MessageKind.REACTION,
            text="".join(untrusted_json.text_of(each.get("emoji")) for each in reactions),
            of=_number(form.get("message_id")),
            payload=form,
            **_place(form, mailbox),
        )
    # Commands, webhooks and the like change nothing that a person sees.
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


async def _sent(form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    text = form.get("text") or form.get("caption")
    image_type = next((each for each in MEDIA if each in form), None)
    message = await mailbox.add(
        "agent",
        text=None if text is None else untrusted_json.text_of(text),
        image_type=image_type,
        payload=form,
        **_place(form, mailbox),
    )
    return _native(message, mailbox)


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
