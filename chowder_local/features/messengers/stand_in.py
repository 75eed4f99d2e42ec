"""What each stand-in for a messenger's server does."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.client import responses
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from chowder_local.core import untrusted_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from datetime import datetime

    from chowder_local.core.fault_injection import FaultDraft
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

TOO_MANY = 429
BOT_NAME = "agent_bot"
"""What people call the agent in groups, after an @."""
MENTION = f"@{BOT_NAME}"
MAX_JSON_BYTES = 4 * 1024 * 1024
"""Reading and writing more at once would hold up the server."""


@dataclass(frozen=True)
class Call:
    """An agent's call of its messenger's server; `path` has no leading slash."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, Any]
    """The members of its body, whether JSON or a form; none if it is neither."""
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "application/json"
    events: AsyncGenerator[bytes, None] | None = None
    """A stream of server-sent events, in place of the body."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Webhook:
    """A call of the agent's gateway, for messengers that send what people write."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class SocketsTooMany(Exception):
    """An agent has as many WebSockets as it may have."""


class Socket(Protocol):
    """A WebSocket, which ends the stand-in's conversation when its client closes it."""

    async def accept(self) -> None:
        """Accepts the connection; one that is not accepted is refused."""

    def admit(self) -> None:
        """Its client has shown that it is the agent, and may stay. Raises SocketsTooMany.

        Before that it has little time, gets nothing of the agent's, and changes nothing.
        """

    async def send(self, text: str) -> None:
        """Sends a text."""

    async def receive(self) -> str:
        """The next text."""


def json_reply(content: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(content).encode())


def refusal(fault: FaultDraft, status: int) -> Reply:
    """An injected refusal, with the members in which each protocol has its reason and its wait."""
    text, is_limit = fault.detail or responses.get(status, "Error"), status == TOO_MANY
    content: dict[str, Any] = {
        # Telegram's,
        "ok": False,
        "error_code": status,
        "description": text,
        # Slack's,
        "error": "ratelimited" if is_limit else "internal_error",
        # Mattermost's, and Discord's,
        "id": "api.local.injected_fault",
        "message": text,
        "status_code": status,
        # and Matrix's.
        "errcode": "M_LIMIT_EXCEEDED" if is_limit else "M_UNKNOWN",
    }
    headers = {}
    if (wait_s := fault.retry_after_s) is not None:
        content |= {
            "parameters": {"retry_after": wait_s},
            "retry_after": wait_s,
            "retry_after_ms": 1000 * wait_s,
        }
        headers["Retry-After"] = str(wait_s)
    return Reply(status, json.dumps(content).encode(), headers=headers)


class StandIn(Protocol):
    """A messenger's protocol, as far as OpenClaw's plugin uses it."""

    channel: str

    def fields(self, url: str, secret: str) -> dict[str, Any]:
        """What connects an agent to this stand-in at `url`, as a client of ours would give it."""

    def sender(self, person: str) -> str:
        """The id by which OpenClaw knows a person."""

    def native(self, message: ChannelMessage, mailbox: Mailbox) -> dict[str, Any]:
        """A person's message as the protocol has it. May take milliseconds."""

    async def reply(self, call: Call, mailbox: Mailbox) -> Reply:
        """The answer to a call."""

    async def converse(self, call: Call, mailbox: Mailbox, socket: Socket) -> None:
        """A whole conversation on a WebSocket; the socket is closed when it returns."""


@runtime_checkable
class CallingStandIn(StandIn, Protocol):
    """A stand-in that calls the agent, in place of being asked by it for messages."""

    async def webhook(self, message: ChannelMessage, mailbox: Mailbox, now: datetime) -> Webhook:
        """The call that brings a person's message; `now` is the agent's time."""


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON body's members; none if it has no such body."""
    try:
        return untrusted_json.read_encodable_object(body) if 0 < len(body) <= MAX_JSON_BYTES else {}
    except ValueError:
        return {}
