"""A stand-in for Discord's API and Gateway (https://discord.com/developers/docs)."""

from __future__ import annotations

import base64
import hmac
import json
import mimetypes
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

API = "discord.com/api/v10/"
GATEWAY = "gateway.discord.gg/"
GATEWAY_URL = f"wss://{GATEWAY}"
ATTACHMENTS = "cdn.discordapp.com/attachments/"
BOT_ID = "200000000000000001"
GUILD_ID = "100000000000000001"
EPOCH_MS = 1_420_070_400_000
NUMBER_BITS = 22
"""Of an id, those that do not tell the time."""
MAX_TEXT = 2000
MAX_CALL_BYTES = 1024 * 1024
MAX_PAGE = 100
MAX_THREADS = 100
"""The threads that an agent may have begun without a message in them."""
HEARTBEAT_MS = 41_250
FOR_EVER_S = 31 * 86_400.0

DIRECT, TEXT, THREAD = 1, 0, 11
DISPATCH, HEARTBEAT, IDENTIFY, RESUME, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 0, 1, 2, 6, 9, 10, 11
"""Kinds of channels, and of what goes through the Gateway."""

BOT = {"id": BOT_ID, "username": BOT_NAME, "discriminator": "0", "avatar": None, "bot": True}
GUILD = {"id": GUILD_ID, "name": "Local", "icon": None, "owner_id": GUILD_ID, "permissions": "8"}
ROLE = {"id": GUILD_ID, "name": "@everyone", "permissions": "8", "position": 0}
MESSAGE_CONTENT = 1 << 18
"""The application's flag with which it gets the text of messages."""
APPLICATION = {
    "id": BOT_ID,
    "name": "Agent",
    "description": "",
    "icon": None,
    "bot_public": False,
    "bot_require_code_grant": False,
    "verify_key": "0" * 64,
    "flags": MESSAGE_CONTENT,
    "owner": {**BOT, "id": GUILD_ID, "username": "owner", "bot": False},
    "team": None,
}
"""With the members that libraries such as discord.py demand."""


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Discord:
    """Has one server with one bot for each agent; its channels are groups, with ids of names.

    The plugin calls Discord's own hosts, from where the sandbox forwards it to here.
    """

    channel = "discord"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {
            "token": bot_token(secret),
            "group_policy": "open",
            "join_intro": False,
            # Discord's address is not among the settings: this is where the sandbox finds it.
            "name": url,
        }

    def sender(self, person: str) -> str:
        return _id("u", person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return _native(message, mailbox)

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        try:
            if call.path.startswith(ATTACHMENTS):
                return await _attachment(call, mailbox)
            _check_token(call.headers.get("authorization", ""), mailbox)
            form = dict(call.form)
            if isinstance(text := form.pop("payload_json", None), str):
                # Beside it come files.
                form |= parse_object(text.encode("utf-8", "replace"))
            elif len(call.body) > MAX_CALL_BYTES:
                raise _Refused(413, "Request entity too large", 40005)
            path = call.path.removeprefix(API).split("/")
            result = await _result(call, path, form, mailbox)
        except _Refused as refused:
            return json_reply({"message": str(refused), "code": refused.code}, refused.status)
        return Reply(204, b"") if result is None else json_reply(result)

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        if call.path != GATEWAY:
            return
        await socket.accept()
        await _send(socket, HELLO, {"heartbeat_interval": HEARTBEAT_MS})
        async with owned_tasks() as tasks:
            is_identified = False
            while True:
                payload = parse_object((await socket.receive()).encode("utf-8", "replace"))
                kind, content = payload.get("op"), payload.get("d")
                if kind == HEARTBEAT:
                    # Many a client sends one before it identifies itself.
                    if is_identified:
                        await mailbox.mark_delivered(_sequence(content))
                    await _send(socket, HEARTBEAT_ACK)
                elif kind in (IDENTIFY, RESUME):
                    if is_identified or not _has_token(content, mailbox):
                        await _send(socket, INVALID_SESSION, content=False)
                        return
                    is_identified = True
                    socket.admit()
                    await _greet(kind, untrusted_json.object_of(content), mailbox, socket)
                    tasks.create_task(_deliver(mailbox, socket))


def bot_token(secret: str) -> str:
    """A token that begins with the application's id, as Discord's do."""
    return f"{base64.b64encode(BOT_ID.encode()).decode()}.local.{secret}"


def _check_token(token: str, mailbox: Mailbox) -> None:
    expected = f"Bot {bot_token(mailbox.secret)}"
    if not hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode()):
        raise _Refused(401, "401: Unauthorized")


def _has_token(content: Any, mailbox: Mailbox) -> bool:
    token = untrusted_json.text_of(untrusted_json.object_of(content).get("token"))
    expected = bot_token(mailbox.secret)
    return hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode())


async def _send(
    socket: Socket, kind: int, content: Any = None, event: str | None = None, sequence: Any = None
) -> None:
    await socket.send(json.dumps({"op": kind, "d": content, "t": event, "s": sequence}))


async def _greet(kind: int, content: dict[str, Any], mailbox: Mailbox, socket: Socket) -> None:
    if kind == RESUME:
        await mailbox.mark_delivered(_sequence(content.get("seq")))
        await _send(socket, DISPATCH, {}, "RESUMED", _sequence(content.get("seq")))
        return
    ready = {
        "v": 10,
        "user": BOT,
        "application": {"id": BOT_ID, "flags": MESSAGE_CONTENT},
        "guilds": [{"id": GUILD_ID, "unavailable": True}],
        # Any session goes on: what was not acknowledged is sent again.
        "session_id": mailbox.instance.id,
        "resume_gateway_url": GATEWAY_URL,
    }
    await _send(socket, DISPATCH, ready, "READY", 0)


async def _deliver(mailbox: Mailbox, socket: Socket) -> None:
    """Sends what people write, until the agent opens another connection."""
    connection = mailbox.state["connection"] = object()
    latest = 0
    while messages := await mailbox.undelivered(FOR_EVER_S, after=latest):
        for message in messages:
            if mailbox.state["connection"] is not connection:
                return
            latest = message.id
            native = _native(message, mailbox)
            await _send(socket, DISPATCH, native, "MESSAGE_CREATE", message.id)
            # The heartbeat that this asks for has the number of the latest message that came.
            await _send(socket, HEARTBEAT)


def _sequence(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 63 else 0


async def _result(call: Call, path: list[str], form: Any, mailbox: Mailbox) -> Any:
    match (call.method, *path):
        case ("GET", "gateway", "bot"):
            limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
            return {"url": GATEWAY_URL, "shards": 1, "session_start_limit": limit}
        case ("GET", "users", "@me"):
            return BOT
        case ("GET", "oauth2", "applications", "@me") | ("GET", "applications", "@me"):
            return APPLICATION
        case ("GET", "users", "@me", "guilds"):
            return [GUILD]
        case ("POST", "users", "@me", "channels"):
            person = _user(untrusted_json.text_of(form.get("recipient_id")), mailbox)["username"]
            return _channel({"person": person, "group": None, "thread": None})
        case ("GET", "users", number):
            return _user(number, mailbox)
        case ("GET", "applications", *_, "commands") | ("PUT", "applications", *_, "commands"):
            return []
        case ("POST" | "PATCH", "applications", *_):
            return {**form, "id": _id("c", untrusted_json.text_of(form.get("name")))}
        case ("DELETE", "applications", *_):
            return None
        case ("GET", "guilds", guild, *rest) if guild == GUILD_ID:
            return _guild(call, rest, mailbox)
        case (_, "channels", number, *rest):
            return await _in_channel(call, _place(number, mailbox), rest, form, mailbox)
        case _:
            raise _not_found()


def _guild(call: Call, path: list[str], mailbox: Mailbox) -> Any:
    people = dict.fromkeys(each.person for each in mailbox.messages if each.person)
    match path:
        case []:
            return {**GUILD, "roles": [ROLE]}
        case ["channels"]:
            groups = dict.fromkeys(each.group for each in mailbox.messages if each.group)
            return [_channel({"person": None, "group": each, "thread": None}) for each in groups]
        case ["members", *rest]:
            if rest not in ([], ["search"]):
                return _member(_user(rest[0], mailbox))
            term = call.query.get("query", "").lower()
            found = (each for each in people if term in each.lower())
            return [_member(_user(_id("u", each), mailbox)) for each in found]
        case ["roles"]:
            return [ROLE]
        case ["threads", "active"]:
            return {"threads": list(map(_channel, _threads(mailbox).values())), "members": []}
        case ["emojis" | "stickers" | "scheduled-events"]:
            return []
        case _:
            raise _not_found()


async def _in_channel(
    call: Call, place: dict[str, Any], path: list[str], form: Any, mailbox: Mailbox
) -> Any:
    match (call.method, *path):
        case ("GET",):
            return _channel(place)
        case ("GET", "messages"):
            return _history(call, place, mailbox)
        case ("GET", "messages", number):
            return _native(_find(number, mailbox), mailbox)
        case ("POST", "messages"):
            message = await mailbox.add(
                "agent", text=_words(form), image_type=_file_type(form), payload=form, **place
            )
            return _native(message, mailbox)
        case ("POST", "typing"):
            await mailbox.add_typing(**place)
        case ("POST", "threads") | ("POST", "messages", _, "threads"):
            return _channel(_begin_thread(place, form, mailbox))
        case ("GET", "threads", *_):
            return {"threads": [], "members": [], "has_more": False}
        case ("GET", "pins") | ("GET", "messages", _, "reactions", _):
            return []
        case (_, "messages", number, *rest):
            return await _change(call.method, number, rest, form, place, mailbox)
        case ("PUT" | "DELETE", "pins" | "thread-members", _):
            pass
        case _:
            raise _Refused(403, "Missing Permissions", 50013)
    return None


async def _change(
    method: str,
    number: str,
    path: list[str],
    form: Any,
    place: dict[str, Any],
    mailbox: Mailbox,
) -> Any:
    """What the agent does to a message."""
    message = _find(number, mailbox)
    content: dict[str, Any]
    match (method, *path):
        case ("PATCH",) if message.author == "agent":
            content = {"kind": MessageKind.EDIT, "text": _words(form)}
        case ("PATCH",):
            raise _Refused(403, "Cannot edit a message authored by another user", 50005)
        case ("DELETE",):
            content = {"kind": MessageKind.DELETION}
        case ("PUT", "reactions", emoji, "@me"):
            content = {"kind": MessageKind.REACTION, "text": emoji}
        case ("DELETE", "reactions", *_):
            return None
        case _:
            raise _not_found()
    changed = await mailbox.add("agent", of=message.id, payload=form, **content, **place)
    return {**_native(changed, mailbox), "id": number} if method == "PATCH" else None


async def _attachment(call: Call, mailbox: Mailbox) -> Reply:
    """An image of a person's; its address has a signature, as Discord's have."""
    number = call.path.removeprefix(ATTACHMENTS)
    signature = call.query.get("hm", "").encode("utf-8", "replace")
    if not hmac.compare_digest(signature, _signature(number, mailbox).encode()):
        raise _not_found()
    message = mailbox.find(_number(number))
    image = await mailbox.image(_number(number))
    if message is None or image is None:
        raise _not_found()
    return Reply(200, image, message.image_type or "application/octet-stream")


def _signature(number: str, mailbox: Mailbox) -> str:
    text = f"{ATTACHMENTS}{number}".encode("utf-8", "replace")
    return hmac.digest(mailbox.secret.encode(), text, "sha256").hex()


def _history(call: Call, place: dict[str, Any], mailbox: Mailbox) -> list[dict[str, Any]]:
    """A channel's messages, newest first."""
    limit = max(1, min(_number(call.query.get("limit", "50")), MAX_PAGE))
    before, around, after = (
        _number(call.query.get(name, "0")) for name in ("before", "around", "after")
    )
    # Around a message are those before it, and itself.
    before = before or (around and around + 1)
    chat = (place["group"], None if place["group"] else place["person"])
    found = [
        each
        for each in as_read(each for each in mailbox.messages if each.chat == chat)
        if each.thread == place["thread"]
        and after < _snowflake(each)
        and (not before or _snowflake(each) < before)
    ]
    page = found[:limit] if after else found[-limit:]
    return [_native(each, mailbox) for each in reversed(page)]


def _begin_thread(place: dict[str, Any], form: Any, mailbox: Mailbox) -> dict[str, Any]:
    name = untrusted_json.text_of(form.get("name"))[:100]
    if not (place["group"] and name) or place["thread"]:
        raise _Refused(400, "Cannot execute action on this channel type", 50024)
    begun = mailbox.state.setdefault("threads", {})
    thread = {**place, "thread": name}
    begun[_thread_id(place["group"], name)] = thread
    for old in list(begun)[:-MAX_THREADS]:
        del begun[old]
    return thread


def _threads(mailbox: Mailbox) -> dict[str, dict[str, Any]]:
    """The places of all threads, by their ids."""
    names = dict.fromkeys((each.group, each.thread) for each in mailbox.messages)
    there = {
        _thread_id(group, thread): {"person": None, "group": group, "thread": thread}
        for group, thread in names
        if group and thread
    }
    return {**mailbox.state.get("threads", {}), **there}


def _place(number: str, mailbox: Mailbox) -> dict[str, Any]:
    """The person or group of a channel, and the thread."""
    if (thread := _threads(mailbox).get(number)) is not None:
        return thread
    group = mailbox.group_of(lambda name: _id("g", name), number)
    person = mailbox.person_of(lambda name: _id("d", name), number)
    if group is None and person is None:
        raise _not_found("Unknown Channel", 10003)
    return {"person": None if group else person, "group": group, "thread": None}


def _channel(place: dict[str, Any]) -> dict[str, Any]:
    group, thread = place["group"], place["thread"]
    if group is None:
        person = place["person"]
        return {"id": _id("d", person), "type": DIRECT, "recipients": [_person(person)]}
    if thread is None:
        channel = {"id": _id("g", group), "type": TEXT, "name": group, "parent_id": None}
    else:
        parent = {"parent_id": _id("g", group), "owner_id": GUILD_ID}
        channel = {"id": _thread_id(group, thread), "type": THREAD, "name": thread, **parent}
        channel["thread_metadata"] = {"archived": False, "locked": False}
    return {**channel, "guild_id": GUILD_ID, "permission_overwrites": []}


def _user(number: str, mailbox: Mailbox) -> dict[str, Any]:
    if number == BOT_ID:
        return BOT
    name = mailbox.person_of(lambda name: _id("u", name), number)
    if name is None:
        raise _not_found("Unknown User", 10013)
    return _person(name)


def _person(name: str) -> dict[str, Any]:
    user = {"id": _id("u", name), "username": name, "global_name": name}
    return {**user, "discriminator": "0", "avatar": None}


def _member(user: dict[str, Any]) -> dict[str, Any]:
    return {"user": user, "nick": None, "roles": [], "joined_at": "2026-01-01T00:00:00+00:00"}


def _native(message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
    """A message as Discord has it."""
    is_person = message.author == "person"
    text = message.text or ""
    place = {"person": message.person, "group": message.group, "thread": message.thread}
    native: dict[str, Any] = {
        "id": str(_snowflake(message)),
        "type": 0,
        "channel_id": _channel(place)["id"],
        "author": _person(message.person or "") if is_person else BOT,
        "content": text.replace(MENTION, f"<@{BOT_ID}>"),
        "timestamp": message.at.isoformat(),
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [BOT] if MENTION in text else [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "pinned": False,
    }
    if is_person and message.group:
        native |= {"guild_id": GUILD_ID, "member": _member(native["author"])}
    if is_person and message.image_type is not None:
        kind, number = message.image_type, str(message.id)
        address = f"https://{ATTACHMENTS}{number}?hm={_signature(number, mailbox)}"
        image = {"id": number, "filename": f"image.{kind.rpartition('/')[2]}", "size": 1}
        native["attachments"] = [{**image, "content_type": kind, "url": address}]
    return native


def _words(form: Any) -> str | None:
    """The text of a call, as people see it."""
    text = untrusted_json.text_of(form.get("content"))
    if not text:
        # A message of components has its texts in them, and in their containers.
        parts = untrusted_json.objects_of(form.get("components"))
        parts += [
            each for part in parts for each in untrusted_json.objects_of(part.get("components"))
        ]
        text = "\n".join(
            filter(None, (untrusted_json.text_of(each.get("content")) for each in parts))
        )
    if len(text) > MAX_TEXT:
        raise _Refused(400, "Invalid Form Body", 50035)
    return text.replace(f"<@{BOT_ID}>", MENTION) or None


def _file_type(form: Any) -> str | None:
    """The media type of the first file that is sent."""
    name = next((each for key, each in form.items() if key.startswith("files[")), None)
    kind, _ = mimetypes.guess_type(untrusted_json.text_of(name))
    return None if name is None else kind or "application/octet-stream"


def _find(number: str, mailbox: Mailbox) -> ChannelMessage:
    found = (each for each in mailbox.messages if str(_snowflake(each)) == number)
    if (message := next(found, None)) is None:
        raise _not_found("Unknown Message", 10008)
    return message


def _snowflake(message: ChannelMessage) -> int:
    """A message's id, which tells its time, too."""
    at_ms = max(0, int(message.at.timestamp() * 1000) - EPOCH_MS)
    return at_ms << NUMBER_BITS | message.id % (1 << NUMBER_BITS)


def _id(kind: str, name: str) -> str:
    return str(number_of(f"{kind}{name}", 60))


def _thread_id(group: str, thread: str) -> str:
    return _id("t", f"{group}\0{thread}")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise _Refused(400, "Invalid Form Body", 50035)
    return int(text)


def _not_found(message: str = "404: Not Found", code: int = 0) -> _Refused:
    return _Refused(404, message, code)
