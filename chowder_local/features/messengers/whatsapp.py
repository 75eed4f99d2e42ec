"""A stand-in for WhatsApp, whose encrypted protocol is spoken in the sandbox.

There docker/sandbox/messengers/whatsapp.mjs fetches what people write, and passes on what the agent
sends: the stanzas of WhatsApp's protocol, decrypted as far as they are texts.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chowder_local.core import untrusted_json
from chowder_local.features.messengers.mailbox import MessageKind, number_of
from chowder_local.features.messengers.stand_in import BOT_NAME, Call, Reply, Socket, json_reply

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

FOLDER = "credentials/whatsapp-local"
"""In the agent's state; the credentials of a real account stay beside it."""
NUMBER = "15550100100"
ID = "LOCAL"
"""What messages' ids begin with: many a short text is a token, of which crabline knows a part."""
LONGEST_POLL_S = 25.0


class Whatsapp:
    """Has one account for each agent, and people with telephone numbers made of their names."""

    channel = "whatsapp"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        return {
            # WhatsApp's address is not among the settings: this is where the sandbox finds it.
            "accounts": {"default": {"authDir": f"~/.openclaw/{FOLDER}", "name": url}},
            "files": {f"{FOLDER}/creds.json": json.dumps(_credentials(secret))},
        }

    def sender(self, person: str) -> str:
        return f"+{_phone(person)}"

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        person = message.person or ""
        jid = f"{_phone(person)}@s.whatsapp.net"
        names = {"chatJid": jid, "senderJid": jid, "pushName": person}
        return {**names, "messageId": f"{ID}{message.id}", "text": message.text}

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        expected = account_key(mailbox.secret)
        if not hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode()):
            return json_reply({"error": "Unauthorized"}, 401)
        if (call.method, call.path) == ("GET", "messages"):
            after = _number(call.query.get("after"))
            waiting = await mailbox.undelivered(LONGEST_POLL_S, after=after)
            messages = [{"number": each.id, **self.native(each, mailbox)} for each in waiting]
            return json_reply({"messages": messages})
        if (call.method, call.path) == ("POST", "events"):
            await _take(dict(call.form), mailbox)
            return json_reply({})
        return json_reply({"error": "Not found"}, 404)

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """The plugin's WebSocket ends in the sandbox."""


async def _take(event: dict[str, Any], mailbox: Mailbox) -> None:
    """A text, or a stanza that is no text or that is still encrypted."""
    attributes = untrusted_json.object_at(event, "attrs")
    if event.get("tag") == "receipt":
        await mailbox.mark_delivered(_number(str(attributes.get("id")).removeprefix(ID)))
        return
    jid = untrusted_json.object_at(event, "key").get("remoteJid") or attributes.get("to")
    phone = untrusted_json.text_of(jid).partition("@")[0].partition(":")[0]
    if (person := mailbox.person_of(_phone, phone)) is None:
        return
    children = untrusted_json.objects_of(event.get("content"))
    if event.get("tag") == "chatstate":
        if any(each.get("tag") == "composing" for each in children):
            await mailbox.add_typing(person=person)
        return
    text = untrusted_json.object_at(event, "message").get("conversation")
    content: dict[str, Any] = {"text": text if isinstance(text, str) else None}
    if attributes.get("type") == "reaction":
        content["kind"] = MessageKind.REACTION
    elif attributes.get("type") == "media":
        content["image_type"] = "application/octet-stream"
    await mailbox.add("agent", person=person, payload=event, **content)


def account_key(secret: str) -> str:
    """What the program in the sandbox authenticates with, which finds it in the credentials."""
    return base64.b64encode(hmac.digest(secret.encode(), b"adv", "sha256")).decode()


def _credentials(secret: str) -> dict[str, Any]:
    """What OpenClaw keeps of an account that a telephone's owner has linked, as Baileys has it."""

    def key_pair(name: str) -> dict[str, Any]:
        private = X25519PrivateKey.from_private_bytes(
            hmac.digest(secret.encode(), name.encode(), "sha256")
        )
        return {
            "private": _buffer(private.private_bytes_raw()),
            "public": _buffer(private.public_key().public_bytes_raw()),
        }

    signature = _buffer(bytes(64))
    identity = key_pair("identity")
    return {
        "noiseKey": key_pair("noise"),
        "pairingEphemeralKeyPair": key_pair("pairing"),
        "signedIdentityKey": identity,
        # Nobody here checks the signatures.
        "signedPreKey": {"keyPair": key_pair("prekey"), "signature": signature, "keyId": 1},
        "registrationId": 1,
        "advSecretKey": account_key(secret),
        "processedHistoryMessages": [],
        "nextPreKeyId": 1,
        "firstUnuploadedPreKeyId": 1,
        "accountSyncCounter": 0,
        "accountSettings": {"unarchiveChats": False},
        "registered": True,
        "me": {"id": f"{NUMBER}:1@s.whatsapp.net", "name": BOT_NAME},
        "account": {
            "details": _buffer(b""),
            "accountSignatureKey": identity["public"],
            "accountSignature": signature,
            "deviceSignature": signature,
        },
        "platform": "android",
    }


def _buffer(content: bytes) -> dict[str, str]:
    return {"type": "Buffer", "data": base64.b64encode(content).decode()}


def _phone(person: str) -> str:
    return f"1{number_of(person):010d}"


def _number(value: Any) -> int:
    text = str(value)[:15]
    return int(text) if text.isascii() and text.isdecimal() else 0
