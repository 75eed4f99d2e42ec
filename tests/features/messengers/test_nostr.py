"""What stands in for a Nostr relay, on real WebSockets, as OpenClaw and a hostile agent use it."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chowder_local.api.schemas.faults_and_replies import FaultCreation
from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers.nostr import Nostr, sign
from chowder_local.features.messengers.service import Messengers
from chowder_local.http.listener import SandboxConnection, bound_socket, listening
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.features.messengers.mailbox import Mailbox
    from tests.scripted.world import World

NOSTR = Nostr()
ADA = NOSTR.sender("Ada")
AGENT = "1b84c5567b126440995d3ed5aaba0565d71e1834604819ff9c17f5e9d5dd078f"
AGENT_KEY = int("01" * 32, 16)
TO_ADA = {
    "kind": 4,
    "content": "gGQymhnmL+Dvsn/+fksH9taxJWL2zJEzWZxhqToj90A=?iv=7TWbGdBumMYEGmmWvqPWOQ==",
    "tags": [["p", ADA], ["e", "ab"]],
    "created_at": 1777863721,
    "pubkey": AGENT,
    "id": "e936e09f0ed041dfe2344237afe8a2f73fee07f65400f39473c557abf862a1f7",
}
"""Made by nostr-tools, which OpenClaw uses."""


@dataclass(frozen=True)
class Relay:
    mailbox: Mailbox
    port: int

    @asynccontextmanager
    async def connection(self, secret: str | None = None) -> AsyncIterator[ClientConnection]:
        path = f"{self.mailbox.instance.id}/{secret or self.mailbox.secret}"
        url = f"ws://relay.local:{self.port}/messengers/nostr/{path}"
        async with connect(url, host="127.0.0.1", port=self.port, proxy=None) as connection:
            yield connection


@pytest.fixture
async def relay(world: World) -> AsyncIterator[Relay]:
    instance = await world.placed(InstanceStatus.RUNNING)
    app, bound = (
        world.relay_app,
        bound_socket("127.0.0.1", 0),
    )
    async with listening(app, bound, protocol=SandboxConnection, takes_websockets=True):
        mailbox = await world.feature(Messengers).mailbox(instance, "nostr")
        yield Relay(mailbox, bound.getsockname()[1])


async def ask(connection: ClientConnection, *message: Any) -> Any:
    await connection.send(json.dumps(message))
    return json.loads(await connection.recv())


def subscription(**more: Any) -> dict[str, Any]:
    return {"kinds": [4], "#p": [AGENT], "since": 1000, **more}


def decrypted(event: dict[str, Any]) -> str:
    """What the agent reads, by code of the test's own."""
    ciphertext, _, iv = event["content"].partition("?iv=")
    curve = ec.SECP256K1()
    other = ec.EllipticCurvePublicKey.from_encoded_point(
        curve, bytes.fromhex("02" + event["pubkey"])
    )
    key = ec.derive_private_key(AGENT_KEY, curve).exchange(ec.ECDH(), other)
    cipher = Cipher(algorithms.AES(key), modes.CBC(base64.b64decode(iv)))
    padded = cipher.decryptor().update(base64.b64decode(ciphertext))
    return padded[: -padded[-1]].decode()


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(relay: Relay) -> None:
    await relay.mailbox.add("person", person="Ada", text="Hello 😀")
    async with relay.connection() as connection:
        kind, name, event = await ask(connection, "REQ", "sub:1", subscription())
        assert (kind, name, event["pubkey"], event["tags"]) == (
            "EVENT", "sub:1", ADA, [["p", AGENT]],
        )  # fmt: skip
        assert decrypted(event) == "Hello 😀"
        assert json.loads(await connection.recv()) == ["EOSE", "sub:1"]
        await relay.mailbox.add("person", person="Ada", text="Hello 😀")
        again = json.loads(await connection.recv())[2]
        # OpenClaw takes two events of one id for the same.
        assert again["id"] != event["id"]

        assert await ask(connection, "EVENT", TO_ADA) == ["OK", TO_ADA["id"], True, ""]
        answer = relay.mailbox.messages[-1]
        assert (answer.person, answer.text) == ("Ada", 'Hällo "Ada" 😀')
        assert (await ask(connection, "EVENT", TO_ADA))[3].startswith("duplicate:")
        assert relay.mailbox.messages[-1] is answer


async def test_a_message_waits_for_the_agents_next_connection(relay: Relay) -> None:
    async with relay.connection() as former:
        assert await ask(former, "REQ", "s", subscription()) == ["EOSE", "s"]
        async with relay.connection() as connection:
            assert await ask(connection, "REQ", "s", subscription()) == ["EOSE", "s"]
            await relay.mailbox.add("person", person="Ada", text="One")
            assert decrypted(json.loads(await connection.recv())[2]) == "One"
            await eventually(lambda: relay.mailbox.messages[0].is_delivered, "it is noted")
            await connection.send(json.dumps(["CLOSE", "s"]))
    await relay.mailbox.add("person", person="Ada", text="Two")
    async with relay.connection() as connection:
        # As of an agent whose clock has been moved on.
        later = subscription(since=1 << 35)
        event = (await ask(connection, "REQ", "s", later))[2]
        assert (decrypted(event), event["created_at"]) == ("Two", 1 << 35)


async def test_a_connection_needs_the_secret(relay: Relay) -> None:
    for secret in ("other", "%C3%A9"):
        with pytest.raises(InvalidStatus, match="403"):
            async with relay.connection(secret):
                pass


async def test_a_client_that_sends_bytes_is_disconnected(relay: Relay) -> None:
    async with relay.connection() as connection:
        await connection.send(b"[]")
        with pytest.raises(ConnectionClosed):
            await connection.recv()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "ab"}, "invalid: it is no event"),
        ({"id": None}, "invalid: it is no event"),
        ({"content": "other"}, "invalid: it is no event"),
        ({"tags": [5, ["p"], ["p", {}]]}, "restricted: "),
        ({"content": "AAAA?iv=AAAA"}, "invalid: its content"),
        ({"content": "é"}, "invalid: its content"),
        ({"content": "0" * 44}, "invalid: its content"),
        ({"pubkey": "f" * 64}, "invalid: its content"),
        ({"pubkey": "xyz"}, "invalid: its content"),
    ],
)
async def test_what_is_no_event_for_a_person_is_refused(
    relay: Relay, change: dict[str, Any], reason: str
) -> None:
    await relay.mailbox.add("person", person="Ada", text="Hello")
    event = TO_ADA | change
    if reason != "invalid: it is no event":
        members = [event[each] for each in ("pubkey", "created_at", "kind", "tags", "content")]
        text = json.dumps([0, *members], separators=(",", ":"), ensure_ascii=False)
        event["id"] = hashlib.sha256(text.encode()).hexdigest()
    async with relay.connection() as connection:
        answer = await ask(connection, "EVENT", event)
        assert (answer[0], answer[2], answer[3][: len(reason)]) == ("OK", False, reason)
        assert len(relay.mailbox.messages) == 1


@pytest.mark.parametrize(
    ("members", "reason"),
    [({}, "rate-limited: "), ({"status": 503, "detail": "It is full."}, "error: It is full.")],
)
async def test_an_injected_fault_refuses_an_event_as_a_relay_does(
    world: World, relay: Relay, members: dict[str, Any], reason: str
) -> None:
    await relay.mailbox.add("person", person="Ada", text="Hello")
    agent = relay.mailbox.instance
    fault = FaultCreation(kind="channel", instance_id=agent.id, **members).draft()
    world.faults.add(agent.organization_id, fault)
    async with relay.connection() as connection:
        refused = await ask(connection, "EVENT", TO_ADA)
        assert refused[:3] == ["OK", TO_ADA["id"], False]
        assert refused[3].startswith(reason)
        assert (await ask(connection, "EVENT", TO_ADA))[2]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[[]]", '["AUTH",{}]', '["REQ"]', '["REQ",5,{}]', "[" * 5000, "[1e999]"],
)
async def test_what_is_no_message_is_answered_with_a_notice(relay: Relay, text: str) -> None:
    async with relay.connection() as connection:
        await connection.send(text)
        assert json.loads(await connection.recv())[0] == "NOTICE"


@pytest.mark.parametrize("wanted", [None, {}, {"#p": 5}, {"#p": ["zz"]}, {"#p": ["f" * 64]}])
async def test_a_subscription_without_a_key_is_closed(relay: Relay, wanted: Any) -> None:
    async with relay.connection() as connection:
        assert (await ask(connection, "REQ", "s", wanted))[:2] == ["CLOSED", "s"]


def test_a_signature_is_that_of_bip_340() -> None:
    """The first of its test vectors."""
    assert sign(3, bytes(32), bytes(32)).hex().upper() == (
        "E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA8215"
        "25F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0"
    )
