"""A stand-in for Slack: its Web API (https://api.slack.com/methods) and its Socket Mode."""

from __future__ import annotations

import hmac
import html
import json
import secrets
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.tasks import owned_tasks
from chowder_local.features.messengers.mailbox import MessageKind, as_read, number_of
from chowder_local.features.messengers.stand_in import (
    BOT_NAME,
    MENTION,
    Call,
    Reply,
    Socket,
    json_reply,
    parse_object,
)

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

APP_ID = "ALOCAL"
TEAM_ID = "TLOCAL"
TEAM_NAME = "Local"
BOT_ID = "BAGENT"
BOT_USER_ID = "UAGENT"
API = "slack.com/api/"
SOCKET = "wss-primary.slack.com/"
UPLOAD = "files.slack.com/upload/"
PICTURE = "files.slack.com/files/"
MAX_CALL_BYTES = 1024 * 1024
MAX_PENDING = 16
"""The tickets and the uploads that an agent may have begun."""
MAX_HISTORY = 1000
FOR_EVER_S = 31 * 86_400.0


class _Refused(Exception):
    """Slack's name of an error."""


class Slack:
    """Has one workspace with one bot for each agent; ids of people and channels are made of names.

    The plugin calls Slack's own hosts, from where the sandbox forwards it to here. A thread's root
    is a message that has the thread's name as its text.
    """

    channel = "slack"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {
            "bot_token": bot_token(secret),
            "app_token": app_token(secret),
            "mode": "socket",
            "group_policy": "open",
            # Socket Mode does not use it: this is where the sandbox finds Slack's address.
            "relay": {"url": url},
        }

    def sender(self, person: str) -> str:
        return _id("U", person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return _envelope(message)

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        try:
            if call.path.startswith(UPLOAD):
                return _upload(call, mailbox)
            if call.path.startswith(PICTURE):
                return await _picture(call, mailbox)
            method = call.path.removeprefix(API)
            if len(call.body) > MAX_CALL_BYTES:
                raise _Refused("msg_too_long")
            form = {
                name: value
                for name, value in {**call.query, **call.form}.items()
                if isinstance(value, str | int | float | list | dict | None)
            }
            _check_token(call, form.pop("token", None), method, mailbox)
            result = await _result(method, form, mailbox)
        except _Refused as refused:
            # Slack refuses with 200.
            return json_reply({"ok": False, "error": str(refused)})
        return json_reply({"ok": True, **result})

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        tickets = mailbox.state.get("tickets", [])
        if call.path.removeprefix(SOCKET) not in tickets:
            return
        tickets.remove(call.path.removeprefix(SOCKET))
        socket.admit()
        await socket.accept()
        hello = {"type": "hello", "num_connections": 1, "connection_info": {"app_id": APP_ID}}
        await socket.send(json.dumps(hello))
        async with owned_tasks() as tasks:
            tasks.create_task(_deliver(mailbox, socket))
            while True:
                acknowledged = parse_object((await socket.receive()).encode())
                envelope = untrusted_json.text_of(acknowledged.get("envelope_id"))
                if envelope.isdecimal() and len(envelope) < 20:
                    await mailbox.mark_delivered(int(envelope))


def bot_token(secret: str) -> str:
    return f"xoxb-{secret}"


def app_token(secret: str) -> str:
    return f"xapp-1-{APP_ID}-1-{secret}"


def _check_token(call: Call, in_form: Any, method: str, mailbox: Mailbox) -> None:
    token = call.headers.get("authorization", "").removeprefix("Bearer ") or str(in_form)
    is_app = method == "apps.connections.open"
    expected = app_token(mailbox.secret) if is_app else bot_token(mailbox.secret)
    if not hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode()):
        raise _Refused("invalid_auth")


async def _deliver(mailbox: Mailbox, socket: Socket) -> None:
    """Sends what people write, until the agent opens another connection."""
    connection = mailbox.state["connection"] = object()
    latest = 0
    while messages := await mailbox.undelivered(FOR_EVER_S, after=latest):
        for message in messages:
            if mailbox.state["connection"] is not connection:
                return
            latest = message.id
            await socket.send(json.dumps(_envelope(message)))


def _envelope(message: ChannelMessage) -> dict[str, Any]:
    event = {**_native(message), "channel": _channel(message), "event_ts": _ts(message)}
    event["channel_type"] = "channel" if message.group else "im"
    authorization = {"team_id": TEAM_ID, "user_id": BOT_USER_ID, "is_bot": True}
    return {
        "type": "events_api",
        "envelope_id": str(message.id),
        "accepts_response_payload": False,
        "retry_attempt": 0,
        "retry_reason": "",
        "payload": {
            "type": "event_callback",
            "team_id": TEAM_ID,
            "api_app_id": APP_ID,
            "event_id": f"Ev{message.id}",
            "event_time": int(message.at.timestamp()),
            "event": event,
            "authorizations": [{**authorization, "is_enterprise_install": False}],
        },
    }


async def _result(method: str, form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    match method:
        case "auth.test":
            names = {"url": "https://local.slack.com/", "team": TEAM_NAME, "team_id": TEAM_ID}
            return {**names, "user": BOT_NAME, "user_id": BOT_USER_ID, "bot_id": BOT_ID}
        case "apps.connections.open":
            ticket = secrets.token_urlsafe()
            pending = mailbox.state.setdefault("tickets", [])
            pending[:] = [*pending, ticket][-MAX_PENDING:]
            return {"url": f"wss://{SOCKET}{ticket}"}
        case "users.info":
            return {"user": _user(_text(form, "user"), mailbox)}
        case "users.list":
            people = _members({}, mailbox)
            return {"members": [_user(each, mailbox) for each in people]}
        case "conversations.open":
            person = _user(_text(form, "users"), mailbox)["name"]
            return {"channel": {"id": _id("D", person)}}
        case "conversations.info":
            return {"channel": _conversation(_place(form, mailbox), form)}
        case "conversations.members":
            return {"members": _members(_place(form, mailbox), mailbox)}
        case "conversations.history" | "conversations.replies":
            return _history(form, mailbox, is_thread=method.endswith("replies"))
        case "files.info" | "files.getUploadURLExternal" | "files.completeUploadExternal":
            return await _file(method, form, mailbox)
        case _:
            return await _change(method, form, mailbox)


async def _change(method: str, form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    """What the agent does to a conversation."""
    match method:
        case "chat.postMessage" | "chat.postEphemeral" | "chat.startStream":
            place = _place(form, mailbox)
            message = await mailbox.add("agent", text=_words(form), payload=form, **place)
            return {"channel": form["channel"], "ts": _ts(message), "message": _native(message)}
        case "chat.update" | "chat.appendStream" | "chat.stopStream":
            shown = _own_message(form, mailbox)
            text = _words(form) if method == "chat.update" else f"{shown.text}{_words(form)}"
            if text != shown.text:
                await _add(MessageKind.EDIT, form, mailbox, text)
            return {"channel": form["channel"], "ts": _text(form, "ts"), "text": text}
        case "chat.delete":
            await _add(MessageKind.DELETION, form, mailbox)
            return {"channel": form["channel"], "ts": _text(form, "ts")}
        case "reactions.add":
            form = {**form, "ts": form.get("timestamp")}
            await _add(MessageKind.REACTION, form, mailbox, f":{_text(form, 'name')}:")
        case "agents.sessions.setStatus" | "assistant.threads.setStatus":
            if form.get("status"):
                form = {**form, "channel": form.get("channel_id")}
                await mailbox.add_typing(**_place(form, mailbox))
        case "reactions.remove" | "views.publish" | "agents.sessions.rename":
            pass
        case "conversations.list":
            groups = dict.fromkeys(each.group for each in mailbox.messages if each.group)
            return {"channels": [_conversation({"group": each}, {}) for each in groups]}
        case "emoji.list":
            return {"emoji": {}}
        case "pins.list" | "reactions.list":
            return {"items": []}
        case _:
            raise _Refused("unknown_method")
    return {}


async def _add(
    kind: MessageKind, form: dict[str, Any], mailbox: Mailbox, text: str | None = None
) -> None:
    number = _number(form.get("ts"))
    place = _place(form, mailbox)
    if mailbox.find(number) is None:
        raise _Refused("message_not_found")
    await mailbox.add("agent", kind=kind, text=text, of=number, payload=form, **place)


async def _file(method: str, form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    if method == "files.info":
        message = mailbox.find(_number(f"0.{_text(form, 'file')[1:]}"))
        if message is None or message.image_type is None:
            raise _Refused("file_not_found")
        return {"file": _image(message)}
    uploads = mailbox.state.setdefault("uploads", {})
    if method == "files.getUploadURLExternal":
        number = f"F{secrets.token_hex(8).upper()}"
        uploads[number] = ""
        for old in list(uploads)[:-MAX_PENDING]:
            del uploads[old]
        return {"upload_url": f"https://{UPLOAD}{number}", "file_id": number}
    files = form.get("files")
    if isinstance(files, str):
        try:
            files = untrusted_json.read_encodable(files.encode())
        except ValueError:
            raise _Refused("invalid_arguments") from None
    form = {**form, "channel": form.get("channel_id"), "text": form.get("initial_comment")}
    place = _place(form, mailbox)
    done: list[dict[str, str]] = []
    for each in untrusted_json.objects_of(files)[:MAX_PENDING]:
        number = untrusted_json.text_of(each.get("id"))
        if not (image_type := uploads.pop(number, "")):
            raise _Refused("file_not_found")
        text = None if done else _words(form) or None
        await mailbox.add("agent", text=text, image_type=image_type, payload=form, **place)
        done.append({"id": number, "title": untrusted_json.text_of(each.get("title"))})
    return {"files": done}


def _upload(call: Call, mailbox: Mailbox) -> Reply:
    """Takes a file's type; what is in it is not kept."""
    number = call.path.removeprefix(UPLOAD)
    uploads = mailbox.state.get("uploads", {})
    if number not in uploads:
        return Reply(404, b"", "text/plain")
    kind = call.headers.get("content-type", "")[:100]
    uploads[number] = kind or "application/octet-stream"
    return Reply(200, f"OK - {len(call.body)}".encode(), "text/plain")


def _history(form: dict[str, Any], mailbox: Mailbox, *, is_thread: bool) -> dict[str, Any]:
    place = _place(form, mailbox)
    chat = (place["group"], None if place["group"] else place["person"])
    limit = max(1, min(_number(f"0.{form.get('limit') or 100}"), MAX_HISTORY))
    oldest = _moment(form.get("oldest") or "0.0")
    latest = _moment(form.get("latest") or f"{10**10}.0")
    is_inclusive = form.get("inclusive") in {True, "true", "1"}
    messages = [
        each
        for each in as_read(each for each in mailbox.messages if each.chat == chat)
        if oldest < (at := _moment(_ts(each))) < latest or (is_inclusive and at in {oldest, latest})
    ]
    if not is_thread:
        found = [_native(each) for each in messages if each.thread is None][-limit:]
        return {"messages": found[::-1], "has_more": False}
    root = _text(form, "ts")
    found = [_native(each) for each in messages if root in (_thread_ts(each), _ts(each))][-limit:]
    if found and found[0]["ts"] != root:
        text = next(each.thread or "" for each in messages if _thread_ts(each) == root)
        found.insert(0, {"type": "message", "ts": root, "text": text, "user": found[0]["user"]})
    return {"messages": found, "has_more": False}


def _place(form: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    """The person or group of a call's channel, and the thread."""
    channel = _text(form, "channel")
    thread_ts = form.get("thread_ts")
    threads = {each.thread for each in mailbox.messages if each.thread} if thread_ts else ()
    thread = next((each for each in threads if _root_ts(each) == thread_ts), None)
    group = mailbox.group_of(lambda name: _id("C", name), channel)
    # A message may be sent to a user's own id.
    person = mailbox.person_of(lambda name: _id(channel[:1], name), channel)
    if group is None and (person is None or channel[:1] not in "DU"):
        raise _Refused("channel_not_found")
    return {"person": None if group else person, "group": group, "thread": thread}


def _members(place: dict[str, Any], mailbox: Mailbox) -> list[str]:
    """The ids of those who wrote in a group, or at all."""
    group = place.get("group")
    names = dict.fromkeys(
        each.person for each in mailbox.messages if each.person and group in {None, each.group}
    )
    return [BOT_USER_ID, *(_id("U", name) for name in names)]


def _conversation(place: dict[str, Any], form: dict[str, Any]) -> dict[str, Any]:
    if group := place["group"]:
        kind = {"is_channel": True, "is_member": True, "is_private": False}
        return {"id": _id("C", group), "name": group, **kind}
    return {"id": form["channel"], "is_im": True, "user": _id("U", place["person"])}


def _user(number: str, mailbox: Mailbox) -> dict[str, Any]:
    if number == BOT_USER_ID:
        name: str | None = BOT_NAME
    else:
        name = mailbox.person_of(lambda name: _id("U", name), number)
    if name is None:
        raise _Refused("user_not_found")
    profile = {"real_name": name, "display_name": name}
    user = {"id": number, "team_id": TEAM_ID, "name": name, "real_name": name, "deleted": False}
    return {**user, "profile": profile, "is_bot": number == BOT_USER_ID}


def _native(message: ChannelMessage) -> dict[str, Any]:
    """A message as Slack has it."""
    is_agent = message.author == "agent"
    text = html.escape(message.text or "", quote=False)
    native: dict[str, Any] = {
        "type": "message",
        "ts": _ts(message),
        "team": TEAM_ID,
        "user": BOT_USER_ID if is_agent else _id("U", message.person or ""),
        "text": text.replace(MENTION, f"<@{BOT_USER_ID}>"),
    }
    if is_agent:
        native["bot_id"] = BOT_ID
    elif message.image_type is not None:
        native |= {"subtype": "file_share", "files": [_image(message)]}
    if thread_ts := _thread_ts(message):
        native["thread_ts"] = thread_ts
    return native


def _image(message: ChannelMessage) -> dict[str, Any]:
    kind, url = message.image_type or "", f"https://{PICTURE}{message.id}"
    image = {"id": f"F{message.id}", "name": f"image.{kind.rpartition('/')[2]}", "mimetype": kind}
    return {**image, "url_private": url, "url_private_download": url}


async def _picture(call: Call, mailbox: Mailbox) -> Reply:
    """What is in an image of a person's."""
    _check_token(call, None, "", mailbox)
    number = _number(f"0.{call.path.removeprefix(PICTURE)}")
    message, image = mailbox.find(number), await mailbox.image(number)
    if message is None or image is None:
        return Reply(404, b"", "text/plain")
    return Reply(200, image, message.image_type or "application/octet-stream")


def _own_message(form: dict[str, Any], mailbox: Mailbox) -> ChannelMessage:
    number = _number(form.get("ts"))
    shown = (each for each in as_read(mailbox.messages) if each.id == number)
    if (message := next(shown, None)) is None or message.author != "agent":
        raise _Refused("message_not_found")
    return message


def _words(form: dict[str, Any]) -> str:
    """The text of a call, as people see it."""
    text = untrusted_json.text_of(form.get("text") or form.get("markdown_text"))
    if not text and isinstance(form.get("chunks"), str):
        chunks = parse_object(f'{{"chunks": {form["chunks"]}}}'.encode()).get("chunks")
        text = "".join(
            untrusted_json.text_of(each.get("text")) for each in untrusted_json.objects_of(chunks)
        )
    text = text.replace(f"<@{BOT_USER_ID}> ({BOT_NAME})", MENTION)
    text = text.replace(f"<@{BOT_USER_ID}>", MENTION)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text


def _channel(message: ChannelMessage) -> str:
    return _id("C", message.group) if message.group else _id("D", message.person or "")


def _id(kind: str, name: str) -> str:
    return f"{kind}{number_of(name, 40):010X}"


def _ts(message: ChannelMessage) -> str:
    return f"{int(message.at.timestamp())}.{message.id:06d}"


def _thread_ts(message: ChannelMessage) -> str | None:
    return _root_ts(message.thread) if message.thread else None


def _root_ts(thread: str) -> str:
    return f"{1_000_000_000 + number_of(thread, 28)}.000000"


def _number(ts: Any) -> int:
    """The number of the message that a timestamp belongs to."""
    return _moment(ts)[1]


def _moment(ts: Any) -> tuple[int, int]:
    parts = str(ts)[:40].split(".")
    if not (len(parts) == 2 and all(each.isascii() and each.isdecimal() for each in parts)):
        raise _Refused("invalid_ts")
    return int(parts[0]), int(parts[1])


def _text(form: dict[str, Any], name: str) -> str:
    return untrusted_json.text_of(form.get(name))
