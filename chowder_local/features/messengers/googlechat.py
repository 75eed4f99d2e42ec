"""A stand-in for Google Chat's API (https://developers.google.com/workspace/chat/api/reference/rest)."""

from __future__ import annotations

import base64
import hmac
import json
import re
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from chowder_local.core import untrusted_json
from chowder_local.features.messengers.mailbox import MessageKind, number_of
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
    from datetime import datetime

    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

ISSUER = "chat@system.gserviceaccount.com"
PROJECT = "1"
BOT = {"name": "users/app", "displayName": BOT_NAME, "type": "BOT"}
MAX_TEXT_BYTES = 32_000
TYPING = re.compile(r"_.{1,200} is typing\.\.\._")
"""The plugin's message that the agent types, which it then makes the answer."""
MAX_ANSWERS = 100
MAX_ASSERTION_CHARS = 4096
TOKEN_LIFE_S = 3600


class _Refused(Exception):
    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.name = name


class GoogleChat:
    """Has one app for each agent; ids of people and spaces are made of names.

    The plugin calls Google's own hosts, from where the sandbox forwards it to here.
    """

    channel = "googlechat"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        private = _key(secret).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        account = {
            "type": "service_account",
            "client_email": f"{BOT_NAME}@local.iam.gserviceaccount.com",
            "private_key": private.decode(),
        }
        return {
            "audience_type": "project-number",
            "audience": PROJECT,
            # As a text, which other credentials replace as a whole.
            "service_account": json.dumps(account),
            # Google's address is not among the settings: this is where the sandbox finds it.
            "webhook_url": url,
            "webhook_path": "/googlechat",
            "group_policy": "open",
        }

    def sender(self, person: str) -> str:
        return _user(person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        native = _native(message)
        at = message.at.isoformat()
        return {
            "type": "MESSAGE",
            "eventTime": at,
            "space": native["space"],
            "user": native["sender"],
            "message": native,
        }

    async def webhook(self, message: ChannelMessage, mailbox: Mailbox, now: datetime) -> Webhook:
        # Few agents have this channel, and no server should import it before it is ready.
        import jwt

        claims = {
            "iss": ISSUER,
            "aud": PROJECT,
            "iat": now,
            "exp": now + timedelta(seconds=TOKEN_LIFE_S),
        }
        token = jwt.encode(claims, _key(mailbox.secret), "ES256", {"kid": _key_id(mailbox.secret)})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return Webhook("/googlechat", headers, json.dumps(self.native(message, mailbox)).encode())

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        try:
            match call.path.split("/", 1):
                case ["www.googleapis.com", path] if path.endswith(f"/x509/{ISSUER}"):
                    public = _key(mailbox.secret).public_key()
                    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                    return json_reply({_key_id(mailbox.secret): pem.decode()})
                case ["oauth2.googleapis.com", "token"]:
                    return _token(call, mailbox)
                case ["chat.googleapis.com", path]:
                    _check(call.headers.get("authorization", ""), f"Bearer {mailbox.secret}")
                    if path.startswith("v1/media/"):
                        return await _media(path, mailbox)
                    return json_reply(await _result(call, path.split("/")[1:], mailbox))
            raise _not_found()
        except _Refused as refused:
            error = {"code": refused.status, "message": str(refused), "status": refused.name}
            return json_reply({"error": error}, refused.status)

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """Google Chat has no WebSockets."""


@lru_cache(maxsize=256)
def _key(secret: str) -> ec.EllipticCurvePrivateKey:
    """The key of both sides, which outlives a restart of the server as the secret does."""
    number = int.from_bytes(sha256(secret.encode()).digest(), "big") >> 1
    return ec.derive_private_key(number or 1, ec.SECP256R1())


def _key_id(secret: str) -> str:
    return sha256(f"key {secret}".encode()).hexdigest()[:40]


def _check(given: str, expected: str) -> None:
    if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        message = "Request had invalid authentication credentials."
        raise _Refused(401, "UNAUTHENTICATED", message)


def _token(call: Call, mailbox: Mailbox) -> Reply:
    """A token for who has the account's key, which signs as the kind of key that it is."""
    assertion = untrusted_json.text_of(call.form.get("assertion"))[:MAX_ASSERTION_CHARS]
    signed, _, signature = assertion.rpartition(".")
    try:
        _key(mailbox.secret).public_key().verify(
            base64.urlsafe_b64decode(f"{signature}=="),
            signed.encode("utf-8", "replace"),
            ec.ECDSA(SHA256()),
        )
    except (InvalidSignature, ValueError):
        error = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        return json_reply(error, 400)
    token = {"access_token": mailbox.secret, "expires_in": TOKEN_LIFE_S, "token_type": "Bearer"}
    return json_reply(token)


async def _result(call: Call, path: list[str], mailbox: Mailbox) -> dict[str, Any]:
    match (call.method, *path):
        case ("GET", "spaces"):
            return {"spaces": []}
        case ("GET", "spaces:findDirectMessage"):
            user = call.query.get("name", "")
            person = mailbox.person_of(_user, user)
            if person is None:
                raise _not_found()
            return _space(person, None)
        case ("GET", "spaces", space):
            return _space(**_chat(space, mailbox))
        case ("POST", "spaces", space, "messages"):
            thread = untrusted_json.text_of(
                untrusted_json.object_at(call.form, "thread").get("name")
            )
            names = {each.thread for each in mailbox.messages if each.thread} if thread else ()
            chat = _chat(space, mailbox)
            found = next((each for each in names if _thread(space, each) == thread), None)
            text = _text(call)
            kind = MessageKind.TYPING if TYPING.fullmatch(text) else MessageKind.MESSAGE
            content: dict[str, Any] = {"kind": kind, "text": text, "thread": found, **chat}
            return _native(await mailbox.add("agent", payload=call.form, **content))
        case ("PATCH" | "PUT", "spaces", space, "messages", number):
            edited = await _change(MessageKind.EDIT, call, number, mailbox, _text(call))
            return {**_native(edited), "name": f"spaces/{space}/messages/{number}"}
        case ("DELETE", "spaces", space, "messages", number):
            if _find(number, mailbox).kind is not MessageKind.TYPING:
                await _change(MessageKind.DELETION, call, number, mailbox)
            return {}
        case ("POST", "spaces", space, "messages", number, "reactions"):
            emoji = untrusted_json.object_at(call.form, "emoji").get("unicode")
            text = untrusted_json.text_of(emoji)
            await _change(MessageKind.REACTION, call, number, mailbox, text)
            return {**call.form}
        case _:
            raise _not_found()


async def _change(
    kind: MessageKind, call: Call, number: str, mailbox: Mailbox, text: str | None = None
) -> ChannelMessage:
    message = _find(number, mailbox)
    content: dict[str, Any] = {
        "person": None if message.group else message.person,
        "group": message.group,
        "thread": message.thread,
        "text": text,
        "payload": call.form,
    }
    if message.kind is MessageKind.TYPING:
        answer = await mailbox.add("agent", **content)
        _answers(mailbox)[number] = answer.id
        for old in list(_answers(mailbox))[:-MAX_ANSWERS]:
            del _answers(mailbox)[old]
        return answer
    return await mailbox.add("agent", kind=kind, of=message.id, **content)


def _find(number: str, mailbox: Mailbox) -> ChannelMessage:
    message = mailbox.find(_answers(mailbox).get(number) or _number(number))
    if message is None:
        raise _not_found()
    return message


def _answers(mailbox: Mailbox) -> dict[str, int]:
    """The numbers of the answers that notices of typing have become."""
    answers: dict[str, int] = mailbox.state.setdefault("answers", {})
    return answers


async def _media(path: str, mailbox: Mailbox) -> Reply:
    message = mailbox.find(_number(path.removeprefix("v1/media/")))
    image = None if message is None else await mailbox.image(message.id)
    if message is None or image is None:
        raise _not_found()
    return Reply(200, image, message.image_type or "")


def _text(call: Call) -> str:
    text = untrusted_json.text_of(call.form.get("text"))
    cards = untrusted_json.objects_of(call.form.get("cardsV2"))
    if not (text or cards):
        raise _Refused(400, "INVALID_ARGUMENT", "Message cannot be empty.")
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        message = f"Message text exceeds the limit of {MAX_TEXT_BYTES} bytes."
        raise _Refused(400, "INVALID_ARGUMENT", message)
    return text


def _native(message: ChannelMessage) -> dict[str, Any]:
    """A message as Google Chat has it."""
    space = _space(message.person, message.group)
    text = message.text or ""
    native: dict[str, Any] = {
        "name": f"{space['name']}/messages/{message.of or message.id}",
        "sender": BOT,
        "createTime": message.at.isoformat(),
        "text": text,
        "space": space,
    }
    if message.thread is not None:
        native["thread"] = {"name": _thread(space["name"].partition("/")[2], message.thread)}
    if message.author == "agent":
        return native
    name = message.person or ""
    native["sender"] = {"name": _user(name), "displayName": name, "type": "HUMAN"}
    native["argumentText"] = text.replace(MENTION, "", 1)
    if (at := text.find(MENTION)) >= 0:
        mention = {"user": BOT, "type": "MENTION"}
        place = {"startIndex": at, "length": len(MENTION)}
        native["annotations"] = [{"type": "USER_MENTION", **place, "userMention": mention}]
    if kind := message.image_type:
        native["attachment"] = [
            {
                "name": f"{native['name']}/attachments/1",
                "contentName": f"image.{kind.rpartition('/')[2]}",
                "contentType": kind,
                "attachmentDataRef": {"resourceName": str(message.id)},
                "source": "UPLOADED_CONTENT",
            }
        ]
    return native


def _space(person: str | None, group: str | None) -> dict[str, Any]:
    if group is not None:
        kinds = {"type": "ROOM", "spaceType": "SPACE"}
        return {"name": f"spaces/{_space_id('G', group)}", "displayName": group, **kinds}
    kinds = {"type": "DM", "spaceType": "DIRECT_MESSAGE"}
    return {"name": f"spaces/{_space_id('D', person or '')}", "singleUserBotDm": True, **kinds}


def _chat(space: str, mailbox: Mailbox) -> dict[str, Any]:
    group = mailbox.group_of(lambda name: _space_id("G", name), space)
    person = mailbox.person_of(lambda name: _space_id("D", name), space)
    if group is None and person is None:
        raise _not_found()
    return {"person": None if group else person, "group": group}


def _space_id(kind: str, name: str) -> str:
    return f"{kind}{number_of(name, 40):010X}"


def _thread(space: str, name: str) -> str:
    return f"spaces/{space}/threads/{number_of(name, 40):010X}"


def _user(person: str) -> str:
    return f"users/{number_of(person, 62)}"


def _not_found() -> _Refused:
    return _Refused(404, "NOT_FOUND", "Requested entity was not found.")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
