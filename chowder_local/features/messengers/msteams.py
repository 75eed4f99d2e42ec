"""A stand-in for Microsoft Teams: its Bot Connector, and the login service of its bots
(https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import secrets
import threading
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa

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

APP_ID = "00000000-0000-4000-8000-0000000000a1"
TENANT_ID = "00000000-0000-4000-8000-0000000000a2"
TEAM_ID = "19:00000000000000a3@thread.tacv2"
BOT_ID = f"28:{APP_ID}"
BOT_MENTION = f"<at>{BOT_NAME}</at>"
LOGIN = "https://login.microsoftonline.com"
ISSUER = "https://api.botframework.com"
SERVICE_URL = "https://smba.trafficmanager.net/teams"
QUOTE = re.compile(r'^<quoted messageId="[^"<>]{0,100}"/>\s{0,4}')
TOKEN_LIFE_S = 3600
MAX_TEXT_BYTES = 100 * 1024
MAX_STREAMS = 100
"""The messages of an agent that it may still write on."""


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class MsTeams:
    """Has one tenant with one team and one bot for each agent; ids are made of names.

    The plugin calls Microsoft's own hosts, from where the sandbox forwards it to here. A group is a
    channel of the team. A thread's root is a message that nobody has written.
    """

    channel = "msteams"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {
            "app_id": APP_ID,
            "app_password": secret,
            "tenant_id": TENANT_ID,
            "group_policy": "open",
            # An answer in parts takes half a second more.
            "streaming": {"mode": "block"},
            # Teams' address is not among the settings: this is where the sandbox finds it.
            "sso": {"enabled": False, "connectionName": url},
        }

    def sender(self, person: str) -> str:
        return _object_id(person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        return _activity(message)

    async def webhook(self, message: ChannelMessage, mailbox: Mailbox, now: datetime) -> Webhook:
        import jwt

        key = await asyncio.to_thread(_key)
        claims = {
            "iss": ISSUER,
            "aud": APP_ID,
            "nbf": now,
            "exp": now + timedelta(seconds=TOKEN_LIFE_S),
            "serviceurl": SERVICE_URL,
        }
        token = jwt.encode(claims, key, "RS256", {"kid": _key_id(key)})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return Webhook("/api/messages", headers, json.dumps(_activity(message)).encode())

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        host, _, path = call.path.partition("/")
        try:
            match host:
                case "login.botframework.com" if path.endswith("/keys"):
                    return json_reply({"keys": [await asyncio.to_thread(_public_key)]})
                case "login.microsoftonline.com":
                    return json_reply(_login(call, path.split("/"), mailbox))
                case "smba.trafficmanager.net":
                    token = f"Bearer {access_token(mailbox.secret)}"
                    _check(call.headers.get("authorization", ""), token)
                    parts = path.removeprefix("teams/v3/").split("/")
                    if parts[0] == "attachments":
                        return await _attachment(parts, mailbox)
                    return json_reply(await _result(call, parts, mailbox))
            raise _not_found()
        except _Refused as refused:
            error = {"code": refused.code, "message": str(refused)}
            return json_reply({"error": error}, refused.status)

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """Teams has no WebSockets for bots."""


_making_key = threading.Lock()


def _key() -> rsa.RSAPrivateKey:
    """The key of what the agent is sent, which takes a while to make; the plugin asks for it."""
    # Two that ask at once would else get two keys, of which one is forgotten.
    with _making_key:
        return _made_key()


@cache
def _made_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _key_id(key: rsa.RSAPrivateKey) -> str:
    return f"{key.public_key().public_numbers().n % (1 << 128):032x}"


def _public_key() -> dict[str, Any]:
    from jwt.algorithms import RSAAlgorithm

    key = _key()
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "use": "sig", "kid": _key_id(key), "endorsements": ["msteams"]}


def access_token(secret: str) -> str:
    """The bot's token; the plugin reads what is in it."""
    import jwt

    claims = {"aud": ISSUER, "appid": APP_ID, "tid": TENANT_ID}
    return jwt.encode(claims, sha256(secret.encode()).digest(), "HS256")


def _check(given: str, expected: str) -> None:
    if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        message = "Authorization has been denied for this request."
        raise _Refused(401, "Unauthorized", message)


def _login(call: Call, path: list[str], mailbox: Mailbox) -> dict[str, Any]:
    match (call.method, *path):
        case ("GET", tenant, "v2.0", ".well-known", "openid-configuration"):
            base = f"{LOGIN}/{tenant}"
            return {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
            }
        case ("POST", _, "oauth2", "v2.0", "token"):
            _check(untrusted_json.text_of(call.form.get("client_secret")), mailbox.secret)
            token = access_token(mailbox.secret)
            return {"token_type": "Bearer", "expires_in": TOKEN_LIFE_S, "access_token": token}
        case _:
            raise _not_found()


async def _result(call: Call, path: list[str], mailbox: Mailbox) -> Any:
    match (call.method, *path):
        case ("POST", "conversations"):
            members = untrusted_json.objects_of(call.form.get("members"))
            number = untrusted_json.text_of(members[0].get("id")) if members else ""
            return {"id": _conversation(_person(number, mailbox), None, "")}
        case ("GET", "conversations", conversation, "members"):
            return [_member(each) for each in _people(mailbox, **_place(conversation, mailbox))]
        case ("GET", "conversations", _, "members", number):
            return _member(_person(number, mailbox))
        case ("POST", "conversations", conversation, "activities"):
            return {"id": await _post(call, _place(conversation, mailbox), mailbox)}
        case ("POST", "conversations", conversation, "activities", _):
            return {"id": await _post(call, _place(conversation, mailbox), mailbox)}
        case ("PUT", "conversations", _, "activities", number):
            await _change(MessageKind.EDIT, call, number, mailbox, _text(call))
            return {"id": number}
        case ("DELETE", "conversations", _, "activities", number):
            await _change(MessageKind.DELETION, call, number, mailbox)
            return {}
        case ("PUT", "conversations", _, "activities", number, "reactions", reaction):
            await _change(MessageKind.REACTION, call, number, mailbox, reaction[:100])
            return {}
        case ("DELETE", "conversations", _, "activities", number, "reactions", _):
            _find(number, mailbox)
            return {}
        case _:
            raise _not_found()


async def _post(call: Call, place: dict[str, Any], mailbox: Mailbox) -> str:
    """Takes a message, or a part of one that the agent is still writing; its id."""
    form = call.form
    kind = untrusted_json.text_of(form.get("type"))
    entities = untrusted_json.objects_of(form.get("entities"))
    part = next((each for each in entities if each.get("type") == "streaminfo"), None)
    stream = untrusted_json.text_of(form.get("id"))[:40] or f"s{secrets.token_hex(8)}"
    if kind == "typing" and (part is None or part.get("streamType") == "informative"):
        await mailbox.add_typing(**place)
        return stream
    if kind not in {"typing", "message"}:
        return stream
    text = _text(call)
    if (number := _streams(mailbox).get(stream)) is None:
        attachments = untrusted_json.objects_of(form.get("attachments"))
        types = (untrusted_json.text_of(each.get("contentType"))[:100] for each in attachments)
        image_type = next((each for each in types if each.startswith("image/")), None)
        content = {**place, "text": text, "image_type": image_type}
        number = (await mailbox.add("agent", payload=form, **content)).id
        if part is None:
            return str(number)
        _streams(mailbox)[stream] = number
        for old in list(_streams(mailbox))[:-MAX_STREAMS]:
            mailbox.drafts.discard(_streams(mailbox).pop(old))
    else:
        await _change(MessageKind.EDIT, call, stream, mailbox, text)
    if kind == "typing":
        mailbox.drafts.add(number)
    else:
        mailbox.drafts.discard(number)
    return stream


def _streams(mailbox: Mailbox) -> dict[str, int]:
    """The numbers of the messages that were sent in parts, by their ids."""
    streams: dict[str, int] = mailbox.state.setdefault("streams", {})
    return streams


async def _change(
    kind: MessageKind, call: Call, number: str, mailbox: Mailbox, text: str | None = None
) -> None:
    message = _find(number, mailbox)
    await mailbox.add(
        "agent",
        kind=kind,
        person=None if message.group else message.person,
        group=message.group,
        thread=message.thread,
        text=text,
        of=message.id,
        payload=call.form,
    )


async def _attachment(path: list[str], mailbox: Mailbox) -> Reply:
    message = _find(path[1] if len(path) > 1 else "", mailbox)
    image = await mailbox.image(message.id)
    if image is None:
        raise _not_found()
    return Reply(200, image, message.image_type or "")


def _text(call: Call) -> str:
    text = untrusted_json.text_of(call.form.get("text"))
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise _Refused(413, "MessageSizeTooBig", "Message size too large.")
    # It shows what is answered as a box above the answer.
    return QUOTE.sub("", text, count=1).replace(BOT_MENTION, MENTION)


def _activity(message: ChannelMessage) -> dict[str, Any]:
    """A person's message as Teams has it."""
    name = message.person or ""
    root = str(message.id) if message.thread is None else _root(message.thread)
    conversation: dict[str, Any] = {
        "id": _conversation(name, message.group, root),
        "tenantId": TENANT_ID,
    }
    channel_data: dict[str, Any] = {"tenant": {"id": TENANT_ID}}
    if message.group is None:
        conversation["conversationType"] = "personal"
    else:
        conversation |= {"conversationType": "channel", "isGroup": True}
        channel = {"id": _conversation(name, message.group, ""), "name": message.group}
        channel_data |= {"team": {"id": TEAM_ID, "name": "Local"}, "channel": channel}
    text = message.text or ""
    activity: dict[str, Any] = {
        "type": "message",
        "id": str(message.id),
        "timestamp": message.at.isoformat(),
        "channelId": "msteams",
        "serviceUrl": SERVICE_URL,
        "from": _member(name),
        "recipient": {"id": BOT_ID, "name": BOT_NAME},
        "conversation": conversation,
        "channelData": channel_data,
        "text": text.replace(MENTION, BOT_MENTION, 1),
        "textFormat": "plain",
        "locale": "en-US",
    }
    if MENTION in text:
        bot = {"id": BOT_ID, "name": BOT_NAME}
        activity["entities"] = [{"type": "mention", "text": BOT_MENTION, "mentioned": bot}]
    if kind := message.image_type:
        url = f"{SERVICE_URL}/v3/attachments/{message.id}/views/original"
        picture = f"image.{kind.rpartition('/')[2]}"
        activity["attachments"] = [{"contentType": kind, "contentUrl": url, "name": picture}]
    return activity


def _member(person: str) -> dict[str, str]:
    return {
        "id": f"29:{number_of(person, 62)}",
        "name": person,
        "aadObjectId": _object_id(person),
        "tenantId": TENANT_ID,
    }


def _object_id(person: str) -> str:
    digits = f"{number_of(person, 62):016x}"
    return f"00000000-0000-4000-{digits[:4]}-{digits[4:]}"


def _people(mailbox: Mailbox, person: str | None, group: str | None, **_: Any) -> list[str]:
    if group is None:
        return [person or ""]
    found = (each.person for each in mailbox.messages if each.group == group and each.person)
    return [*dict.fromkeys(found)]


def _person(number: str, mailbox: Mailbox) -> str:
    def has_id(name: str) -> str:
        member = _member(name)
        return number if number in {member["id"], member["aadObjectId"]} else ""

    person = mailbox.person_of(has_id, number)
    if person is None or not number:
        raise _not_found()
    return person


def _conversation(person: str, group: str | None, root: str) -> str:
    if group is None:
        return f"a:{number_of(person, 62):x}"
    channel = f"19:{number_of(group, 62):016x}@thread.tacv2"
    return f"{channel};messageid={root}" if root else channel


def _place(conversation: str, mailbox: Mailbox) -> dict[str, Any]:
    """The person or group of a conversation, and the thread."""
    number, _, root = conversation.partition(";messageid=")
    group = mailbox.group_of(lambda name: _conversation("", name, ""), number)
    person = mailbox.person_of(lambda name: _conversation(name, None, ""), number)
    if group is None and person is None:
        raise _not_found()
    names = {each.thread for each in mailbox.messages if each.thread} if root else ()
    thread = next((each for each in names if _root(each) == root), None)
    return {"person": None if group else person, "group": group, "thread": thread}


def _root(thread: str) -> str:
    return str(10**15 + number_of(thread, 40))


def _find(number: str, mailbox: Mailbox) -> ChannelMessage:
    is_number = number.isascii() and number.isdecimal() and len(number) < 19
    known = int(number) if is_number else _streams(mailbox).get(number, 0)
    message = mailbox.find(known)
    if message is None:
        raise _Refused(404, "ActivityNotFoundInConversation", "The activity was not found.")
    return message


def _not_found() -> _Refused:
    return _Refused(404, "ConversationNotFound", "Conversation not found.")
