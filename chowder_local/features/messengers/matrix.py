"""A stand-in for a Matrix homeserver (https://spec.matrix.org, the client-server API)."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.features.messengers.mailbox import ChannelMessage, MessageKind, number_of
from chowder_local.features.messengers.stand_in import (
    BOT_NAME,
    MENTION,
    Call,
    Reply,
    Socket,
    json_reply,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Messages = list[ChannelMessage]

    from chowder_local.features.messengers.mailbox import Mailbox

LONGEST_POLL_S = 25.0
SERVER = "local"
BOT = f"@{BOT_NAME}:{SERVER}"
BOT_DISPLAY_NAME = "Agent"
MAX_EVENTS = 100
MESSAGE, REACTION, MEMBER = "m.room.message", "m.reaction", "m.room.member"
RULES = ("override", "content", "room", "sender", "underride")
FIXED: Mapping[tuple[str, ...], Any] = {
    ("GET", "account", "whoami"): {"user_id": BOT, "device_id": "AGENT", "is_guest": False},
    ("GET", "pushrules"): {"global": {each: [] for each in RULES}},
    ("GET", "capabilities"): {"capabilities": {}},
    # Of a file that the agent sends, its type is kept.
    ("POST", "upload"): {"content_uri": f"mxc://{SERVER}/upload"},
}


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Matrix:
    """Has one user for each agent, people with numbers made of their names, and their rooms."""

    channel = "matrix"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {
            "homeserver": url,
            "access_token": secret,
            "network": {"dangerouslyAllowPrivateNetwork": True},
            "group_policy": "open",
            "join_intro": False,
        }

    def sender(self, person: str) -> str:
        return _user(person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return {"room_id": _room_of(message.person, message.group), **_event(message)}

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        api, _, path = call.path.removeprefix("_matrix/").partition("/")
        version, _, rest = path.partition("/")
        try:
            if (api, version) == ("client", "versions"):
                return json_reply({"versions": ["v1.1", "v1.11"]})
            token = call.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(token.encode(), mailbox.secret.encode()):
                raise _Refused(401, "M_UNKNOWN_TOKEN", "Unrecognised access token")
            # Identifiers hold no slash.
            steps = [each for each in rest.split("/") if each]
            return await _answer(call, steps, mailbox)
        except _Refused as refused:
            body = {"errcode": refused.code, "error": str(refused)}
            return json_reply(body, refused.status)

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """Matrix has no WebSockets."""


async def _answer(call: Call, steps: list[str], mailbox: Mailbox) -> Reply:
    match call.method, *steps:
        case "GET", "sync":
            return json_reply(await _sync(call.query, mailbox))
        case _ if (fixed := FIXED.get((call.method, *steps))) is not None:
            return json_reply(fixed)
        case "POST", "user", _, "filter":
            return json_reply({"filter_id": "0"})
        case "GET", "user", _, "account_data", "m.direct":
            return json_reply(_direct_rooms(mailbox.messages))
        case "GET", "joined_rooms":
            return json_reply({"joined_rooms": list(_by_room(mailbox.messages))})
        case "GET", "profile", user, *_:
            return json_reply({"displayname": _display_name(user, mailbox)})
        case "GET", "media", "download", _, number, *_:
            return await _download(number, mailbox)
        case "POST", "createRoom":
            return json_reply({"room_id": _direct_room(call.form, mailbox)})
        case method, ("rooms" | "join"), room, *rest:
            messages = _by_room(mailbox.messages).get(room)
            if messages is None:
                raise _Refused(403, "M_FORBIDDEN", "You are not in this room")
            if method == "GET":
                return json_reply(_look(call.query, room, rest, messages))
            return json_reply(await _change(call, room, rest, messages, mailbox))
    raise _Refused(404, "M_UNRECOGNIZED", "Unrecognized request")


async def _change(
    call: Call, room: str, steps: list[str], messages: Messages, mailbox: Mailbox
) -> dict[str, Any]:
    """Does what the agent wants in a room."""
    latest = messages[-1]
    place: dict[str, Any] = {
        "person": None if latest.group else latest.person,
        "group": latest.group,
    }
    match call.method, *steps:
        case "PUT", "send", kind, transaction:
            return await _sent(kind, transaction, call.form, place, mailbox)
        case "PUT", "redact", event, _:
            sent = await mailbox.add(
                "agent",
                kind=MessageKind.DELETION,
                of=_number(event),
                payload=dict(call.form),
                **place,
            )
            return {"event_id": _event_id(sent)}
        case "PUT", "typing", _:
            if call.form.get("typing"):
                await mailbox.add_typing(**place)
            return {}
        case "POST", "receipt" | "read_markers", *_:
            return {}
        case "POST", *_:
            # Joining rooms: the agent is in all of them.
            return {"room_id": room}
    raise _Refused(403, "M_FORBIDDEN", "You cannot change this in the room")


def _look(query: Mapping[str, str], room: str, steps: list[str], messages: Messages) -> Any:
    """What the agent wants to know about a room."""
    state = _state(room, messages)
    match steps:
        case ["joined_members"]:
            return {
                "joined": {
                    each["state_key"]: {"display_name": each["content"]["displayname"]}
                    for each in state
                    if each["type"] == MEMBER
                }
            }
        case ["members"]:
            return {"chunk": [each for each in state if each["type"] == MEMBER]}
        case ["state"]:
            return state
        case ["state", kind, *key]:
            for each in state:
                if (each["type"], each["state_key"]) == (kind, key[0] if key else ""):
                    return each["content"]
        case ["event", event]:
            return {"room_id": room, **_context_of(event, messages)}
        case ["messages"]:
            return _history(query, room, messages)
        case ["relations", event, *_]:
            number = _number(event)
            of_it = [each for each in messages if number is not None and each.of == number]
            return {"chunk": [_event(each) for each in of_it[-MAX_EVENTS:]]}
    raise _Refused(404, "M_NOT_FOUND", "Not found")


async def _sync(query: Mapping[str, str], mailbox: Mailbox) -> dict[str, Any]:
    """What has happened since the agent's token, or what it has not fetched if it has none."""
    since = _number(query.get("since"))
    anew: dict[str, Any] = {}
    if since is None:
        # OpenClaw drops what is older than its start, unless it has a token.
        anew["origin_server_ts"] = int(mailbox.clock().timestamp() * 1000)
    else:
        await mailbox.mark_delivered(since)
        wait_s = min((_number(query.get("timeout")) or 0) / 1000, LONGEST_POLL_S)
        if not await _has_news(since, wait_s, mailbox):
            return {"next_batch": _token(since)}
    joined, has_new_rooms, deliverable = {}, since is None, mailbox.deliverable()
    for room, messages in _by_room(deliverable).items():
        known = [] if since is None else [each for each in messages if each.id <= since]
        new = [
            each
            for each in messages
            if (not each.is_delivered if since is None else each.id > since)
        ]
        if not new and since is not None:
            continue
        has_new_rooms |= not known
        former = _people(known)
        people = [each for each in _people(messages) if each not in former]
        joined[room] = {
            "state": {
                "events": [_member(each) for each in people] if known else _state(room, messages)
            },
            "timeline": {
                "events": [{**_event(each), **anew} for each in new],
                "limited": False,
                "prev_batch": _token(since or 0),
            },
        }
    direct = {"type": "m.direct", "content": _direct_rooms(mailbox.messages)}
    latest = max((each.id for each in deliverable), default=since or 0)
    return {
        "next_batch": _token(latest),
        "account_data": {"events": [direct] if has_new_rooms else []},
        "rooms": {"join": joined},
    }


async def _has_news(since: int, wait_s: float, mailbox: Mailbox) -> bool:
    """Waits for what the agent may fetch.

    An agent that is being started drops what reaches it before it runs.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await mailbox.wait_for(lambda: _is_news(since, mailbox), wait_s)
            await _until_running(mailbox)
    return _is_news(since, mailbox) and await mailbox.is_running()


async def _until_running(mailbox: Mailbox) -> None:
    """Waits until the agent runs, or the server stops."""
    if await mailbox.is_running():
        return
    with mailbox.events.follow(mailbox.instance.organization_id) as follower:
        if await mailbox.is_running():
            return
        async for _ in follower.batches():
            if await mailbox.is_running():
                return


def _is_news(since: int, mailbox: Mailbox) -> bool:
    return any(map(_is_event, mailbox.deliverable(since)))


async def _sent(
    kind: str, transaction: str, content: Mapping[str, Any], place: dict[str, Any], mailbox: Mailbox
) -> dict[str, Any]:
    payload = {"type": kind, "content": dict(content), "transaction_id": transaction}
    # The SDK sends an event again if it has lost the answer.
    for each in reversed(mailbox.messages):
        if each.payload.get("transaction_id") == transaction:
            return {"event_id": _event_id(each)}
    relation = untrusted_json.object_at(content, "m.relates_to")
    what: dict[str, Any] = {"text": untrusted_json.text_of(content.get("body"))}
    if kind == REACTION:
        what = {"text": untrusted_json.text_of(relation.get("key")), "kind": MessageKind.REACTION}
    elif kind != MESSAGE:
        raise _Refused(403, "M_FORBIDDEN", "Only messages and reactions can be sent here")
    elif relation.get("rel_type") == "m.replace":
        new = untrusted_json.object_at(content, "m.new_content")
        what = {"text": untrusted_json.text_of(new.get("body")), "kind": MessageKind.EDIT}
    elif "url" in content:
        media_type = untrusted_json.object_at(content, "info").get("mimetype")
        what["image_type"] = untrusted_json.text_of(media_type) or "application/octet-stream"
    if relation.get("rel_type") == "m.thread":
        threads = (each.thread for each in reversed(mailbox.messages) if each.thread)
        root = relation.get("event_id")
        what["thread"] = next((each for each in threads if _thread_id(each) == root), None)
    elif "kind" in what:
        what["of"] = _number(relation.get("event_id"))
    return {"event_id": _event_id(await mailbox.add("agent", payload=payload, **what, **place))}


async def _download(number: str, mailbox: Mailbox) -> Reply:
    message = mailbox.find(_number(number) or 0)
    image = None if message is None else await mailbox.image(message.id)
    if message is None or image is None:
        raise _Refused(404, "M_NOT_FOUND", "Not found")
    return Reply(200, image, message.image_type or "application/octet-stream")


def _history(query: Mapping[str, str], room: str, messages: Messages) -> dict[str, Any]:
    is_backward = query.get("dir") != "f"
    start, limit = _number(query.get("from")), _number(query.get("limit")) or 10
    count = min(max(limit, 1), MAX_EVENTS)
    if is_backward:
        found = [each for each in messages if start is None or each.id <= start][-count:][::-1]
        end = found[-1].id - 1 if found else 0
    else:
        found = [each for each in messages if each.id > (start or 0)][:count]
        end = found[-1].id if found else start or 0
    chunk = [{"room_id": room, **_event(each)} for each in found]
    return {"chunk": chunk, "start": _token(start or 0), "end": _token(end)}


def _context_of(event: str, messages: Messages) -> dict[str, Any]:
    """An event of a room; a thread begins with one that nobody has sent."""
    for each in messages:
        if each.thread is not None and _thread_id(each.thread) == event:
            first = each.model_copy(update={"text": each.thread, "thread": None})
            return {**_event(first), "event_id": event}
        if _event_id(each) == event:
            return _event(each)
    raise _Refused(404, "M_NOT_FOUND", "Event not found")


def _event(message: ChannelMessage) -> dict[str, Any]:
    """A message as Matrix has it."""
    event = {
        "event_id": _event_id(message),
        "origin_server_ts": int(message.at.timestamp() * 1000),
        "sender": BOT if message.author == "agent" else _user(message.person or ""),
        "type": MESSAGE,
        "content": _content(message),
    }
    if message.kind is MessageKind.DELETION:
        redacts = "" if message.of is None else f"${message.of}"
        return {**event, "type": "m.room.redaction", "redacts": redacts, "content": message.payload}
    if message.author == "person":
        return event
    # A payload that is too long is not kept.
    sent = message.payload or {"type": "m.room.message", "content": _content(message)}
    unsigned = {"transaction_id": sent.get("transaction_id")}
    return {**event, "type": sent["type"], "content": sent["content"], "unsigned": unsigned}


def _content(message: ChannelMessage) -> dict[str, Any]:
    text = message.text or ""
    content: dict[str, Any] = {"msgtype": "m.text", "body": text}
    if message.image_type is not None:
        name = f"image.{message.image_type.partition('/')[2]}"
        content = {
            "msgtype": "m.image",
            "body": text or name,
            "filename": name,
            "url": f"mxc://{SERVER}/{message.id}",
            "info": {"mimetype": message.image_type},
        }
    if MENTION in text:
        content["m.mentions"] = {"user_ids": [BOT]}
    if message.thread is not None:
        content["m.relates_to"] = {"rel_type": "m.thread", "event_id": _thread_id(message.thread)}
    return content


def _state(room: str, messages: Messages) -> list[dict[str, Any]]:
    """The state of the room of these messages."""
    group = messages[-1].group
    contents: dict[tuple[str, str], dict[str, Any]] = {
        ("m.room.create", ""): {"room_version": "11"},
        ("m.room.join_rules", ""): {"join_rule": "invite"},
        (MEMBER, BOT): {
            "membership": "join",
            "displayname": BOT_DISPLAY_NAME,
            "is_direct": group is None,
        },
    }
    if group is not None:
        contents["m.room.name", ""] = {"name": group}
    own = [_state_event(kind, key, BOT, content) for (kind, key), content in contents.items()]
    return [
        {**each, "event_id": f"{each['event_id']}{room}"}
        for each in [*own, *map(_member, _people(messages))]
    ]


def _member(name: str) -> dict[str, Any]:
    content = {"membership": "join", "displayname": name}
    return _state_event(MEMBER, _user(name), _user(name), content)


def _state_event(kind: str, key: str, sender: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "state_key": key,
        "sender": sender,
        "origin_server_ts": 0,
        "event_id": f"${kind}{key}",
        "content": content,
    }


def _is_event(message: ChannelMessage) -> bool:
    return message.kind is not MessageKind.TYPING


def _people(messages: Iterable[ChannelMessage]) -> dict[str, None]:
    """The names of those who are in the room of the messages, oldest first."""
    return dict.fromkeys(each.person for each in messages if each.person)


def _by_room(messages: Iterable[ChannelMessage]) -> dict[str, Messages]:
    """The messages of each room, oldest first, but those that Matrix does not have."""
    rooms: dict[str, Messages] = {}
    for each in messages:
        if _is_event(each):
            rooms.setdefault(_room_of(each.person, each.group), []).append(each)
    return rooms


def _direct_rooms(messages: Iterable[ChannelMessage]) -> dict[str, list[str]]:
    people = {each.person for each in messages if each.person and each.group is None}
    return {_user(each): [_room_of(each, None)] for each in sorted(people)}


def _direct_room(form: Mapping[str, Any], mailbox: Mailbox) -> str:
    """The room of a person whom the agent invites to a new one."""
    for user in untrusted_json.texts_of(form.get("invite")):
        if (person := mailbox.person_of(_user, user)) is not None:
            return _room_of(person, None)
    raise _Refused(403, "M_FORBIDDEN", "Only people who have written to the agent have rooms")


def _display_name(user: str, mailbox: Mailbox) -> str:
    name = BOT_DISPLAY_NAME if user == BOT else mailbox.person_of(_user, user)
    if name is None:
        raise _Refused(404, "M_NOT_FOUND", "Profile not found")
    return name


@lru_cache(maxsize=4096)
def _room_of(person: str | None, group: str | None) -> str:
    name = f"group {group}" if group is not None else f"person {person}"
    return f"!{number_of(name, 62)}:{SERVER}"


@lru_cache(maxsize=4096)
def _user(person: str) -> str:
    return f"@{number_of(person)}:{SERVER}"


def _thread_id(thread: str) -> str:
    return f"$thread-{number_of(thread, 62)}"


def _event_id(message: ChannelMessage) -> str:
    return f"${message.id}"


def _token(number: int) -> str:
    return f"s{number}"


def _number(text: Any) -> int | None:
    """The number of a token, an event or a query; None if it is none."""
    digits = untrusted_json.text_of(text).lstrip("s$")[:18]
    return int(digits) if digits.isascii() and digits.isdecimal() else None
