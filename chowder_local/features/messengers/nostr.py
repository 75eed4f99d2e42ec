"""A stand-in for a Nostr relay (https://github.com/nostr-protocol/nips, 01, 04 and 11).

It also has the keys of people, with which it encrypts and signs what they write, and reads what
the agent writes to them. It does not check the agent's signatures: its URL has a secret.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from chowder_local.core import untrusted_json
from chowder_local.core.tasks import owned_tasks
from chowder_local.features.messengers.mailbox import ChannelFault
from chowder_local.features.messengers.stand_in import TOO_MANY, Call, Reply, Socket, json_reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

POLL_S = 60.0
PRIVATE_MESSAGE = 4
MAX_VALUES = 1000
MAX_NAME_CHARS = 64
CURVE = ec.SECP256K1()
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Nostr:
    """A relay of each agent's own, and people with keys made of their names."""

    channel = "nostr"

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        # A relay knows no credentials, so the URL has them.
        relay = f"ws{url.removeprefix('http')}/{secret}"
        return {"private_key": _digest(f"agent {secret}".encode()).hex(), "relays": [relay]}

    def sender(self, person: str) -> str:
        return _public_key(person)

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        agent = _point(int.from_bytes(_digest(f"agent {mailbox.secret}".encode())))
        return _event(message, f"{agent.x:064x}", 0)

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        """The relay's description."""
        return json_reply({"name": "chowder-local", "supported_nips": [1, 4, 11]})

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        if not hmac.compare_digest(call.path.encode(), mailbox.secret.encode()):
            return
        socket.admit()
        await socket.accept()
        async with owned_tasks() as tasks:
            delivery: asyncio.Task[None] | None = None
            while True:
                name, *values = _read(await socket.receive())
                if name == "EVENT":
                    answer = await _publish(values, mailbox)
                elif name in {"REQ", "CLOSE"} and _name(values):
                    if delivery is not None:
                        delivery.cancel()
                    if name == "CLOSE":
                        continue
                    # The plugin has one subscription; a relay may limit them.
                    delivery = tasks.create_task(_deliver(values, mailbox, socket))
                    continue
                else:
                    answer = ["NOTICE", "invalid: the relay takes EVENT, REQ and CLOSE"]
                await socket.send(json.dumps(answer))


async def _deliver(values: list[Any], mailbox: Mailbox, socket: Socket) -> None:
    """Sends what people write to the agent, as long as this is its latest subscription."""
    name, wanted = _name(values), untrusted_json.object_of(values[1] if values[1:] else None)
    recipient = next(iter(untrusted_json.texts_of(wanted.get("#p"))), "")
    if not await asyncio.to_thread(_is_public_key, recipient):
        await socket.send(json.dumps(["CLOSED", name, "restricted: #p must be the agent's key"]))
        return
    since, wait_s = wanted.get("since"), 0.0
    # OpenClaw drops what is older, also if its clock has been moved on.
    oldest = since if type(since) is int and 0 <= since < 1 << 40 else 0
    latest = mailbox.state["subscription"] = object()
    while True:
        waiting = await mailbox.undelivered(wait_s)
        if mailbox.state["subscription"] is not latest or mailbox.shutdown.has_begun:
            return
        for each in waiting:
            event = await asyncio.to_thread(_event, each, recipient, oldest)
            await socket.send(json.dumps(["EVENT", name, event]))
        if waiting:
            await mailbox.mark_delivered(waiting[-1].id)
        if not wait_s:
            await socket.send(json.dumps(["EOSE", name]))
        wait_s = POLL_S


async def _publish(values: list[Any], mailbox: Mailbox) -> list[Any]:
    """Takes an event of the agent's; returns the relay's answer."""
    event = untrusted_json.object_of(values[0] if values else None)
    number, author = (untrusted_json.text_of(event.get(each)) for each in ("id", "pubkey"))
    tags = event.get("tags")
    is_event = isinstance(tags, list) and type(event.get("created_at")) is int
    if not is_event or number != _id(event):
        return ["OK", number[:MAX_NAME_CHARS], False, "invalid: it is no event"]
    is_known = any(each.payload.get("id") == number for each in mailbox.messages)
    if event.get("kind") != PRIVATE_MESSAGE or is_known:
        # Such as the agent's profile.
        return ["OK", number, True, "duplicate: it is known" if is_known else ""]
    recipients = [each[1:2] for each in tags or [] if isinstance(each, list) and each[:1] == ["p"]]
    names = dict.fromkeys(each.person for each in reversed(mailbox.messages) if each.person)
    content = untrusted_json.text_of(event.get("content"))
    person = await asyncio.to_thread(_owner, recipients, names)
    if person is None:
        return ["OK", number, False, "restricted: nobody here has this key"]
    try:
        text = await asyncio.to_thread(_decrypt, content, person, author)
    except ValueError:
        return ["OK", number, False, "invalid: its content is not encrypted for its recipient"]
    try:
        await mailbox.add("agent", person=person, text=text, payload=event)
    except ChannelFault as injected:
        if injected.fault.status is None:
            raise
        reason = "rate-limited" if injected.fault.status == TOO_MANY else "error"
        return ["OK", number, False, f"{reason}: {injected.fault.detail or 'try again later'}"]
    return ["OK", number, True, ""]


def _read(text: str) -> list[Any]:
    """A client's message; an empty name if it is none."""
    try:
        message = untrusted_json.read_encodable(text.encode(), values_max=MAX_VALUES)
    except ValueError:
        return [""]
    if not isinstance(message, list) or not message:
        return [""]
    return [untrusted_json.text_of(message[0]), *message[1:]]


def _name(values: list[Any]) -> str:
    """The name of a subscription; empty if it has none."""
    name = untrusted_json.text_of(values[0] if values else None)
    return name if len(name) <= MAX_NAME_CHARS else ""


def _event(message: ChannelMessage, recipient: str, oldest: int) -> dict[str, Any]:
    """A person's message as Nostr has it; always the same, by which OpenClaw knows it."""
    person = message.person or ""
    event: dict[str, Any] = {
        "pubkey": _public_key(person),
        "created_at": max(int(message.at.timestamp()), oldest),
        "kind": PRIVATE_MESSAGE,
        "tags": [["p", recipient]],
        "content": _encrypt(message.text or "", person, recipient, f"message {message.id}"),
    }
    number = _id(event)
    signature = sign(_private_key(person), bytes.fromhex(number), bytes(32))
    return {**event, "id": number, "sig": signature.hex()}


def _id(event: dict[str, Any]) -> str:
    members = [event.get(each) for each in ("pubkey", "created_at", "kind", "tags", "content")]
    serialized = json.dumps([0, *members], separators=(",", ":"), ensure_ascii=False)
    return _digest(serialized.encode()).hex()


def _owner(recipients: list[Any], names: Iterable[str]) -> str | None:
    """The person who has one of the public keys."""
    return next((each for each in names if [_public_key(each)] in recipients), None)


def _encrypt(text: str, person: str, other: str, occasion: str) -> str:
    padder, iv = PKCS7(128).padder(), _digest(occasion.encode())[:16]
    encryptor = Cipher(algorithms.AES(_shared_key(person, other)), modes.CBC(iv)).encryptor()
    padded = padder.update(text.encode()) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    return f"{base64.b64encode(ciphertext).decode()}?iv={base64.b64encode(iv).decode()}"


def _decrypt(content: str, person: str, other: str) -> str:
    """The text of an encrypted content. Raises ValueError if it is none."""
    ciphertext, _, iv = content.partition("?iv=")
    try:
        decoded, decoded_iv = (base64.b64decode(each, validate=True) for each in (ciphertext, iv))
    except binascii.Error as error:
        raise ValueError("no Base64") from error
    key = _shared_key(person, other)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(decoded_iv)).decryptor()
    unpadder = PKCS7(128).unpadder()
    padded = decryptor.update(decoded) + decryptor.finalize()
    return (unpadder.update(padded) + unpadder.finalize()).decode()


def _private_key(person: str) -> int:
    return int.from_bytes(_digest(f"person {person}".encode()))


@lru_cache(maxsize=4096)
def _public_key(person: str) -> str:
    return f"{_point(_private_key(person)).x:064x}"


@lru_cache(maxsize=256)
def _shared_key(person: str, other: str) -> bytes:
    """What encrypts between two. Raises ValueError if the other has no public key."""
    return ec.derive_private_key(_private_key(person), CURVE).exchange(ec.ECDH(), _key(other))


def _key(public_key: str) -> ec.EllipticCurvePublicKey:
    """A public key of which there is only the one coordinate."""
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVE, b"\x02" + bytes.fromhex(public_key))


def _is_public_key(text: str) -> bool:
    try:
        _key(text)
    except ValueError:
        return False
    return True


def sign(private_key: int, message: bytes, auxiliary: bytes) -> bytes:
    """A Schnorr signature, as BIP 340 has it."""
    point = _point(private_key)
    public = point.x.to_bytes(32)
    private_key = _even(private_key, point)
    masked = private_key ^ int.from_bytes(_tagged("BIP0340/aux", auxiliary))
    nonce = int.from_bytes(_tagged("BIP0340/nonce", masked.to_bytes(32) + public + message)) % ORDER
    nonce_point = _point(nonce)
    nonce_x = nonce_point.x.to_bytes(32)
    challenge = int.from_bytes(_tagged("BIP0340/challenge", nonce_x + public + message))
    proof = (_even(nonce, nonce_point) + challenge * private_key) % ORDER
    return nonce_x + proof.to_bytes(32)


def _point(scalar: int) -> ec.EllipticCurvePublicNumbers:
    return ec.derive_private_key(scalar, CURVE).public_key().public_numbers()


def _even(scalar: int, point: ec.EllipticCurvePublicNumbers) -> int:
    """The scalar of the point or of its mirror image, whichever has an even y."""
    return ORDER - scalar if point.y % 2 else scalar


def _tagged(tag: str, content: bytes) -> bytes:
    return _digest(_digest(tag.encode()) * 2 + content)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
