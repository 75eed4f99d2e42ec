"""A stand-in for Mattermost's server (https://developers.mattermost.com/api-documentation)."""

from __future__ import annotations

import hmac
import json
import secrets
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.tasks import owned_tasks
from chowder_local.features.messengers.mailbox import MessageKind, as_read, number_of
from chowder_local.features.messengers.stand_in import (
    BOT_NAME,
    Call,
    Reply,
    Socket,
    json_reply,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

API = "api/v4/"
MAX_CALL_BYTES = 1024 * 1024
MAX_POST_CHARS = 16_383
MAX_PAGE = 200
MAX_IDS_BYTES = 16 * 1024
MAX_UPLOADS = 16
"""The uploads that an agent may have without a post of theirs."""
FOR_EVER_S = 31 * 86_400.0


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Mattermost:
    """Has one team with one bot for each agent; ids have 26 characters and are made of names.

    A thread's root is a post that has the thread's name as its text.
    """

    channel = "mattermost"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {
            "base_url": url,
            "bot_token": bot_token(secret),
            "group_policy": "open",
            "network": {"dangerouslyAllowPrivateNetwork": True},
        }

    def sender(self, person: str) -> str:
        return _id("u", person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return _post(message)

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        try:
            _check_token(call.headers.get("authorization", "").removeprefix("Bearer "), mailbox)
            path = call.path.removeprefix(API).rstrip("/").split("/")
            if path[0] == "files":
                return await _file(call, path[1:], mailbox)
            if len(call.body) > MAX_CALL_BYTES:
                raise _Refused(413, "The request is too large.")
            result = await _result(call, path, mailbox)
        except _Refused as refused:
            error = {"id": "api.local.app_error", "message": str(refused), "detailed_error": ""}
            return json_reply({**error, "status_code": refused.status}, refused.status)
        return json_reply(result, 201 if call.method == "POST" else 200)

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        if call.path != f"{API}websocket":
            return
        await socket.accept()
        # The token comes first, so a socket without one gets nothing.
        challenge = parse_object((await socket.receive()).encode())
        token = untrusted_json.object_at(challenge, "data").get("token")
        try:
            _check_token(untrusted_json.text_of(token), mailbox)
        except _Refused:
            return
        socket.admit()
        sequence = challenge.get("seq")
        await socket.send(json.dumps({"status": "OK", "seq_reply": sequence}))
        async with owned_tasks() as tasks:
            tasks.create_task(_deliver(mailbox, socket))
            while True:
                # What else it sends, such as that somebody types, changes nothing.
                await socket.receive()


def bot_token(secret: str) -> str:
    """A token of 26 characters, as Mattermost's are."""
    return secret[:26]


def _check_token(token: str, mailbox: Mailbox) -> None:
    expected = bot_token(mailbox.secret)
    if not hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode()):
        raise _Refused(401, "Invalid or expired session, please login again.")


async def _deliver(mailbox: Mailbox, socket: Socket) -> None:
    """Sends what people write, until the agent opens another connection.

    Mattermost has no receipts: what is sent counts as delivered.
    """
    connection = mailbox.state["connection"] = object()
    sequence = 0
    while messages := await mailbox.undelivered(FOR_EVER_S):
        for message in messages:
            if mailbox.state["connection"] is not connection:
                return
            await socket.send(json.dumps({**_event(message), "seq": (sequence := sequence + 1)}))
            await mailbox.mark_delivered(message.id)


def _event(message: ChannelMessage) -> dict[str, Any]:
    channel = _channel(message.person, message.group)
    data = {
        "channel_display_name": channel["display_name"],
        "channel_name": channel["name"],
        "channel_type": channel["type"],
        "post": json.dumps(_post(message)),
        "sender_name": f"@{message.person}",
        "team_id": channel["team_id"],
    }
    return {"event": "posted", "data": data, "broadcast": {"channel_id": channel["id"]}}


async def _result(call: Call, path: list[str], mailbox: Mailbox) -> Any:
    match (call.method, *path):
        case ("GET", "users", "me"):
            return _user(BOT_ID, mailbox)
        case ("GET", "users", "username", name):
            return _user(BOT_ID if name == BOT_NAME else _id("u", name), mailbox)
        case ("GET", "users", _, "teams"):
            return [TEAM]
        case ("GET", "users", _, "channels"):
            return _groups(mailbox)
        case ("GET", "users", number):
            return _user(number, mailbox)
        case ("POST", "users", "ids"):
            return [_user(each, mailbox) for each in _ids(call)]
        case ("POST", "users", "search"):
            term = untrusted_json.text_of(call.form.get("term")).lower()
            found = (each for each in _people(mailbox) if term in each.lower())
            return [_user(_id("u", each), mailbox) for each in found]
        case ("GET", "teams", _, "members"):
            page = call.query.get("page", "0")
            members = (_id("u", each) for each in _people(mailbox))
            return [{"team_id": TEAM["id"], "user_id": each} for each in members if page == "0"]
        case ("GET", "teams", _, "channels", "name", name):
            groups = (each for each in _groups(mailbox) if each["name"] == name)
            return next(groups, None) or _not_found()
        case ("POST", "channels", "direct"):
            person = next((each for each in _ids(call) if each != BOT_ID), "")
            return _channel(_user(person, mailbox)["username"], None)
        case ("GET", "commands"):
            return []
        case _:
            return await _post_result(call, path, mailbox)


async def _post_result(call: Call, path: list[str], mailbox: Mailbox) -> Any:
    """What the agent reads and does in a conversation."""
    match (call.method, *path):
        case ("GET", "channels", number):
            return _channel(**_chat(number, mailbox))
        case ("GET", "channels", number, "posts"):
            chat = _chat(number, mailbox)
            return _posts(_posts_in(mailbox, **chat), call)
        case ("GET", "posts", number):
            return _post(_find(number, mailbox))
        case ("GET", "posts", number, "thread"):
            return _thread(number, call, mailbox)
        case ("POST", "posts"):
            place = _place(call, mailbox)
            types = _upload_types(call.form.get("file_ids"), mailbox)
            content = {**place, "text": _message(call), "image_type": next(iter(types), None)}
            return _post(await mailbox.add("agent", None, payload=call.form, **content))
        case ("PUT", "posts", number) | ("PUT", "posts", number, "patch"):
            edited = await _add(MessageKind.EDIT, call, number, mailbox, _message(call))
            return {**_post(edited), "id": number}
        case ("DELETE", "posts", number):
            await _add(MessageKind.DELETION, call, number, mailbox)
        case ("POST", "reactions"):
            number = untrusted_json.text_of(call.form.get("post_id"))
            name = untrusted_json.text_of(call.form.get("emoji_name"))
            await _add(MessageKind.REACTION, call, number, mailbox, f":{name}:")
            return call.form
        case ("POST", "users", "me", "typing"):
            await mailbox.add_typing(**_place(call, mailbox, "parent_id"))
        case ("DELETE", "users", _, "posts", number, "reactions", _):
            _find(number, mailbox)
        case _:
            _not_found()
    return {"status": "OK"}


async def _add(
    kind: MessageKind, call: Call, number: str, mailbox: Mailbox, text: str | None = None
) -> ChannelMessage:
    message = _find(number, mailbox)
    return await mailbox.add(
        "agent",
        kind=kind,
        person=None if message.group else message.person,
        group=message.group,
        thread=message.thread,
        text=text,
        of=message.id,
        payload=call.form,
    )


async def _file(call: Call, path: list[str], mailbox: Mailbox) -> Reply:
    uploads = mailbox.state.setdefault("uploads", {})
    if call.method == "POST":
        # Its type is taken; what is in it is not kept.
        kind = getattr(call.form.get("files"), "content_type", None)
        number = secrets.token_hex(13)
        uploads[number] = str(kind or "application/octet-stream")[:100]
        for old in list(uploads)[:-MAX_UPLOADS]:
            del uploads[old]
        info = {"id": number, "mime_type": uploads[number], "name": "file"}
        return json_reply({"file_infos": [info], "client_ids": []}, 201)
    message = _find(f"p{path[0][1:]}" if path else "", mailbox)
    image = await mailbox.queries.image(mailbox.instance.id, mailbox.channel, message.id)
    if image is None or message.image_type is None:
        _not_found()
    elif path[1:] == ["info"]:
        return json_reply(_image(message, len(image)))
    return Reply(200, image or b"", message.image_type or "")


def _upload_types(numbers: Any, mailbox: Mailbox) -> list[str]:
    uploads = mailbox.state.get("uploads", {})
    wanted = numbers[:MAX_UPLOADS] if isinstance(numbers, list) else []
    return [uploads.pop(each) for each in wanted if isinstance(each, str) and each in uploads]


def _thread(number: str, call: Call, mailbox: Mailbox) -> dict[str, Any]:
    """A thread's posts, newest first; the root comes last."""
    names = {each.thread for each in mailbox.messages if each.thread}
    name = next((each for each in names if _id("t", each) == number), None)
    if name is None:
        return _posts([_find(number, mailbox)], call)
    start = next(each for each in mailbox.messages if each.thread == name)
    found = [each for each in _posts_in(mailbox, start.person, start.group) if each.thread == name]
    if latest := call.query.get("fromPost"):
        found = [each for each in found if each.id < _find(latest, mailbox).id]
    posts = _posts(found, call)
    root = {**_post(start), "id": number, "root_id": "", "message": name, "file_ids": []}
    return {"order": [*posts["order"], number], "posts": {**posts["posts"], number: root}}


def _posts(messages: Iterable[ChannelMessage], call: Call) -> dict[str, Any]:
    """The latest posts of a page, newest first."""
    asked = call.query.get("per_page") or call.query.get("perPage") or ""
    size = int(asked) if asked.isdecimal() and len(asked) < 4 else MAX_PAGE
    before, after = (call.query.get(name, "")[1:] for name in ("before", "after"))
    shown = [
        each
        for each in messages
        if (not before or _id_of(each)[1:] < before) and (not after or _id_of(each)[1:] > after)
    ]
    page = shown[-min(size, MAX_PAGE) :] if size else []
    rest = _id_of(shown[len(shown) - len(page) - 1]) if len(page) < len(shown) else ""
    posts = {_id_of(each): _post(each) for each in reversed(page)}
    return {"order": list(posts), "posts": posts, "prev_post_id": rest, "next_post_id": ""}


def _posts_in(mailbox: Mailbox, person: str | None, group: str | None) -> list[ChannelMessage]:
    chat = (group, None) if group else (None, person)
    return as_read(each for each in mailbox.messages if each.chat == chat)


def _message(call: Call) -> str:
    text = untrusted_json.text_of(call.form.get("message"))
    if len(text) > MAX_POST_CHARS:
        raise _Refused(400, f"Post Message property is longer than {MAX_POST_CHARS} characters.")
    return text


def _place(call: Call, mailbox: Mailbox, root: str = "root_id") -> dict[str, Any]:
    """The person or group of a call's channel, and the thread."""
    chat = _chat(untrusted_json.text_of(call.form.get("channel_id")), mailbox)
    number = call.form.get(root)
    names = {each.thread for each in mailbox.messages if each.thread} if number else ()
    thread = next((each for each in names if _id("t", each) == number), None)
    return {**chat, "thread": thread}


def _chat(number: str, mailbox: Mailbox) -> dict[str, str | None]:
    group = mailbox.group_of(lambda name: _id("g", name), number)
    person = mailbox.person_of(lambda name: _id("d", name), number)
    if group is None and person is None:
        _not_found()
    return {"person": None if group else person, "group": group}


def _channel(person: str | None, group: str | None) -> dict[str, Any]:
    if group is None:
        name = f"{BOT_ID}__{_id('u', person or '')}"
        chat = {"id": _id("d", person or ""), "type": "D", "display_name": person, "name": name}
        return {**chat, "team_id": ""}
    chat = {"id": _id("g", group), "type": "O", "display_name": group, "name": group}
    return {**chat, "team_id": TEAM["id"]}


def _groups(mailbox: Mailbox) -> list[dict[str, Any]]:
    groups = dict.fromkeys(each.group for each in mailbox.messages if each.group)
    return [_channel(None, each) for each in groups]


def _people(mailbox: Mailbox) -> list[str]:
    return list(dict.fromkeys(each.person for each in mailbox.messages if each.person))


def _user(number: str, mailbox: Mailbox) -> dict[str, Any]:
    if number == BOT_ID:
        name: str | None = BOT_NAME
    else:
        name = mailbox.person_of(lambda name: _id("u", name), number)
    if name is None:
        _not_found()
    user = {"id": number, "username": name, "first_name": name, "last_name": "", "update_at": 1}
    return {**user, "is_bot": number == BOT_ID, "roles": "system_user"}


def _post(message: ChannelMessage) -> dict[str, Any]:
    """A message as Mattermost has it."""
    at_ms = int(message.at.timestamp() * 1000)
    channel = _channel(message.person, message.group)
    is_person = message.author == "person"
    images = [_image(message, 0)] if is_person and message.image_type else []
    return {
        "id": _id_of(message),
        "create_at": at_ms,
        "update_at": at_ms,
        "delete_at": 0,
        "user_id": _id("u", message.person or "") if is_person else BOT_ID,
        "channel_id": channel["id"],
        "root_id": _id("t", message.thread) if message.thread else "",
        "message": message.text or "",
        "type": "",
        "props": {},
        "file_ids": [each["id"] for each in images],
        "metadata": {"files": images},
    }


def _image(message: ChannelMessage, size: int) -> dict[str, Any]:
    kind = message.image_type or ""
    extension = kind.rpartition("/")[2]
    file = {"id": f"f{_id_of(message)[1:]}", "name": f"image.{extension}", "extension": extension}
    return {**file, "mime_type": kind, "size": size}


def _find(number: str, mailbox: Mailbox) -> ChannelMessage:
    is_post = len(number) == ID_LENGTH and number.startswith("p") and number[1:].isdecimal()
    message = mailbox.find(int(number[1:])) if is_post else None
    return message or _not_found()


def _ids(call: Call) -> list[str]:
    """The ids that a body lists."""
    if len(call.body) > MAX_IDS_BYTES:
        raise _Refused(413, "The request is too large.")
    numbers = parse_object(b'{"ids":%b}' % call.body).get("ids")
    wanted = numbers if isinstance(numbers, list) else []
    if len(wanted) > MAX_PAGE:
        raise _Refused(400, f"A list may have {MAX_PAGE} ids.")
    return list(map(untrusted_json.text_of, wanted))


def _id(kind: str, name: str) -> str:
    return f"{kind}{number_of(name, 63):025d}"


def _id_of(message: ChannelMessage) -> str:
    return f"p{message.id:025d}"


def _not_found() -> Any:
    raise _Refused(404, "Unable to find the existing resource.")


ID_LENGTH = 26
BOT_ID = _id("b", BOT_NAME)
TEAM = {"id": _id("m", "Local"), "name": "local", "display_name": "Local", "type": "O"}
