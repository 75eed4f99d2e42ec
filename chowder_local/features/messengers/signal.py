"""A stand-in for the HTTP daemon of signal-cli (https://github.com/AsamK/signal-cli)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import mimetypes
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.features.messengers.mailbox import ChannelMessage, MessageKind, number_of
from chowder_local.features.messengers.stand_in import MENTION, Call, Reply, Socket, json_reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from chowder_local.features.messengers.mailbox import Mailbox

ACCOUNT = "+15550100100"
KEEP_ALIVE_S = 15.0
MENTION_MARK = "\ufffc"
"""What Signal's texts have in place of a mention."""
INVALID_REQUEST, NO_SUCH_METHOD, INVALID_PARAMS, USER_ERROR = -32600, -32601, -32602, -1


class _Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Signal:
    """Has one account for each agent, and people with telephone numbers made of their names."""

    channel = "signal"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        # signal-cli knows no credentials, so the URL has them.
        transport = {"kind": "external-native", "url": f"{url}/{secret}"}
        return {"account": ACCOUNT, "transport": transport, "group_policy": "open"}

    def sender(self, person: str) -> str:
        return _phone(person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return _envelope(message)

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        secret, _, path = call.path.partition("/")
        if not hmac.compare_digest(secret.encode(), mailbox.secret.encode()):
            return Reply(401, b"Unauthorized", "text/plain")
        if (call.method, path) == ("GET", "api/v1/check"):
            return Reply(200, b"")
        if (call.method, path) == ("GET", "api/v1/events"):
            return Reply(200, b"", events=_events(mailbox))
        if (call.method, path) == ("POST", "api/v1/rpc"):
            return await _rpc(call.form, mailbox)
        return Reply(404, b"Not found", "text/plain")

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """signal-cli has no WebSockets."""


async def _events(mailbox: Mailbox) -> AsyncGenerator[bytes, None]:
    """What people write, as long as this is the agent's latest connection."""
    connection = mailbox.state["connection"] = object()
    while True:
        waiting = await mailbox.undelivered(KEEP_ALIVE_S)
        is_latest = mailbox.state["connection"] is connection
        if not is_latest or mailbox.shutdown.has_begun:
            return
        if not waiting:
            yield b":\n\n"
            continue
        for each in waiting:
            event = json.dumps({"envelope": _envelope(each), "account": ACCOUNT})
            yield f"event: receive\ndata: {event}\n\n".encode()
        # One that is cut off before is sent again: the plugin knows a message by its timestamp.
        await mailbox.mark_delivered(waiting[-1].id)


async def _rpc(form: Mapping[str, Any], mailbox: Mailbox) -> Reply:
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": form.get("id")}
    try:
        if form.get("jsonrpc") != "2.0":
            raise _Refused(INVALID_REQUEST, "Invalid request")
        method = untrusted_json.text_of(form.get("method"))
        answer["result"] = await _result(method, untrusted_json.object_at(form, "params"), mailbox)
    except _Refused as refused:
        answer["error"] = {"code": refused.code, "message": str(refused), "data": None}
    return json_reply(answer)


async def _result(method: str, params: dict[str, Any], mailbox: Mailbox) -> Any:
    if method == "version":
        return {"version": "0.13.20"}
    if method == "getAttachment":
        number = _number(params.get("id"))
        image = await mailbox.image(number)
        if image is None:
            raise _Refused(USER_ERROR, f"Could not find attachment with ID: {number}")
        return {"data": base64.b64encode(image).decode()}
    if method == "sendReceipt":
        return {"timestamp": _now(mailbox), "results": []}
    if method not in {"send", "sendTyping", "sendReaction"}:
        raise _Refused(NO_SUCH_METHOD, "Method not implemented")
    place = _place(params, mailbox)
    if method == "sendTyping":
        if not params.get("stop"):
            await mailbox.add_typing(**place)
        return {"timestamp": _now(mailbox), "results": []}
    if method == "sendReaction":
        target = _number(params.get("targetTimestamp"))
        sent = await mailbox.add(
            "agent",
            kind=MessageKind.REACTION,
            text="" if params.get("remove") else untrusted_json.text_of(params.get("emoji")),
            of=next((each.id for each in mailbox.messages if _timestamp(each) == target), None),
            payload=params,
            **place,
        )
    else:
        sent = await _sent(params, place, mailbox)
    return {"timestamp": _timestamp(sent), "results": [{"type": "SUCCESS"}]}


async def _sent(params: dict[str, Any], place: dict[str, Any], mailbox: Mailbox) -> ChannelMessage:
    text = untrusted_json.text_of(params.get("message"))
    # Their names only: the files are in the sandbox, where signal-cli would be.
    paths = untrusted_json.texts_of(params.get("attachments"))
    if not text and not paths:
        raise _Refused(INVALID_PARAMS, "No message body or attachment given")
    image_type = mimetypes.guess_type(paths[0])[0] or "application/octet-stream" if paths else None
    return await mailbox.add(
        "agent", text=text or None, image_type=image_type, payload=params, **place
    )


def _place(params: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    """The person or group that a call is for."""
    group_ids, recipients = (
        _texts(params.get(one)) + _texts(params.get(many))
        for one, many in (("groupId", "groupIds"), ("recipient", "recipients"))
    )
    if group_ids:
        group = mailbox.group_of(_group_id, group_ids[0])
        if group is None:
            raise _Refused(USER_ERROR, "Failed to send message: Group not found")
        return {"person": None, "group": group}
    person = mailbox.person_of(_phone, recipients[0]) if recipients else None
    if person is None:
        raise _Refused(USER_ERROR, "Failed to send message: Unregistered user")
    return {"person": person}


def _envelope(message: ChannelMessage) -> dict[str, Any]:
    """A person's message as signal-cli has it."""
    name, sent_ms, text = message.person or "", _timestamp(message), message.text or ""
    data: dict[str, Any] = {"timestamp": sent_ms, "expiresInSeconds": 0, "viewOnce": False}
    if (at := text.find(MENTION)) >= 0:
        text = text[:at] + MENTION_MARK + text[at + len(MENTION) :]
        # Signal counts in units of UTF-16.
        start = len(text[:at].encode("utf-16-le")) // 2
        data["mentions"] = [{"name": "Agent", "number": ACCOUNT, "start": start, "length": 1}]
    data["message"] = text or None
    if message.group is not None:
        group_id = _group_id(message.group)
        data["groupInfo"] = {"groupId": group_id, "groupName": message.group, "type": "DELIVER"}
    if message.image_type is not None:
        data["attachments"] = [{"contentType": message.image_type, "id": str(message.id)}]
    return {
        "source": _phone(name),
        "sourceNumber": _phone(name),
        "sourceName": name,
        "sourceDevice": 1,
        "timestamp": sent_ms,
        "dataMessage": data,
    }


def _timestamp(message: ChannelMessage) -> int:
    """The milliseconds by which Signal knows a message; no other one of this second has them."""
    return int(message.at.timestamp()) * 1000 + message.id % 1000


def _now(mailbox: Mailbox) -> int:
    return int(mailbox.clock().timestamp() * 1000)


def _phone(name: str) -> str:
    return f"+1{number_of(name, 33):010d}"


def _group_id(name: str) -> str:
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def _texts(value: Any) -> tuple[str, ...]:
    return untrusted_json.texts_of([value] if isinstance(value, str) else value)


def _number(value: Any) -> int:
    try:
        return int(str(value)[:20])
    except ValueError:
        raise _Refused(INVALID_PARAMS, "A number was expected") from None
