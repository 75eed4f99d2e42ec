"""The inboxes of agents: webhooks that they send to the relay, kept for whoever tests them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import logs
from chowder_local.core.domain import InstanceId
from chowder_local.core.events import EventType
from chowder_local.core.tasks import KeyedLocks
from chowder_local.features.webhooks.errors import InboxUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from chowder_local.core.events import Events
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.agent_entries import AgentEntries
    from chowder_local.store.instances import InstanceQueries

INBOX = "inbox"
"""The first segment of the addresses of inboxes."""
MAX_BODY_BYTES = 256 * 1024
HIDDEN = "[hidden]"
_SECRET_WORDS = ("auth", "cookie", "key", "password", "secret", "signature", "token")
_CARRIERS = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
"""Headers of the connection, which say nothing about the webhook."""


@dataclass(eq=False, repr=False, kw_only=True)
class Inbox:
    """Takes webhooks; the token in an inbox's address says whose it is."""

    secret_box: SecretBox
    instances: InstanceQueries
    entries: AgentEntries
    events: Events
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._locks = KeyedLocks()

    def address(self, relay_url: str, instance_id: InstanceId) -> str:
        """The address of an inbox for the agent; anything may follow."""
        return f"{relay_url}/{INBOX}/{self.secret_box.inbox_token(instance_id)}"

    def owner(self, token: str) -> InstanceId:
        """The instance whose inbox it is. Raises InboxUnknown."""
        if (instance_id := self.secret_box.instance_of(token)) is None:
            raise InboxUnknown
        return InstanceId(instance_id)

    async def receive(
        self,
        instance_id: InstanceId,
        method: str,
        path: str,
        query: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
    ) -> None:
        """Stores a webhook; it is on disk when this returns. Raises InboxUnknown."""
        logs.set_instance(instance_id)
        content = {
            "method": method,
            "path": path,
            "query": query,
            "headers": [list(each) for each in _without_secrets(headers)],
            **_text(body),
        }
        # One at a time, so that an agent that floods its inbox does not delay other writers.
        async with self._locks.holding(instance_id):
            instance = await self.instances.get(instance_id)
            if instance is None:
                raise InboxUnknown
            number = await self.entries.add(instance_id, self.clock(), content)
        self.events.publish(
            EventType.WEBHOOK_RECEIVED,
            instance.organization_id,
            instance_id,
            number=number,
            method=method,
            path=path,
        )


def _without_secrets(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The headers, without the values of those that may be secrets."""
    for name, value in headers:
        if name not in _CARRIERS:
            is_secret = any(word in name for word in _SECRET_WORDS)
            yield name, HIDDEN if is_secret else value


def _text(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode(), "is_base64": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "is_base64": True}
