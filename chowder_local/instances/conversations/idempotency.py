"""Messages with an `Idempotency-Key`, which get the same answer when they are sent again.

Only answers are stored, for 24 hours: a message that failed may be tried again with its key.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.errors.requests import (
    IdempotencyKeyInUse,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
)
from chowder_local.core.tasks import logging_errors
from chowder_local.store.idempotent_answers import KeptAnswer, MessageKey

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Mapping,
    )
    from datetime import datetime

    from chowder_local.core.domain import InstanceId
    from chowder_local.store.idempotent_answers import IdempotentAnswerQueries

log = logging.getLogger(__name__)

KEY_CHARACTERS = 255
MAX_STREAM_BYTES = 4 * 1024 * 1024
EXPIRY_INTERVAL_S = 3600.0
JSON = "application/json"
EVENTS = "text/event-stream"

_END = re.compile(rb"(?:\A|\n)event: response\.(?:completed|incomplete)\n")


@dataclass(eq=False, repr=False)
class IdempotentMessages:
    """Sends each message with a key to its agent once."""

    queries: IdempotentAnswerQueries
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._in_use: dict[MessageKey, str] = {}

    async def get(
        self, instance_id: InstanceId, session_key: str, raw_key: str, digest: str
    ) -> KeptAnswer | None:
        """The stored answer to a message with this `request_digest`, if any.

        Raises IdempotencyKeyInvalid if the key is empty or too long; IdempotencyKeyReused if
        another message has used it; IdempotencyKeyInUse while this message is being answered.
        """
        key = _key(instance_id, session_key, raw_key)
        self._check_unused(key, digest)
        if (answer := await self.queries.get(key, self.clock())) is None:
            return None
        if answer.request_sha256 != digest:
            raise IdempotencyKeyReused
        return answer

    async def answer(
        self,
        instance_id: InstanceId,
        session_key: str,
        raw_key: str,
        digest: str,
        ask: Callable[[], Awaitable[bytes | None]],
    ) -> bytes | None:
        """The answer of `ask`, which is stored unless it is None.

        Raises as `get`, and what `ask` raises.
        """
        key = _key(instance_id, session_key, raw_key)
        with self._using(key, digest):
            if (body := await ask()) is not None:
                await self._keep(key, KeptAnswer(digest, JSON, body))
            return body

    async def stream(
        self,
        instance_id: InstanceId,
        session_key: str,
        raw_key: str,
        digest: str,
        events: AsyncIterator[bytes],
    ) -> AsyncGenerator[bytes]:
        """As `answer`, for a stream; its last event is passed on once the answer is stored."""
        key = _key(instance_id, session_key, raw_key)
        received, end = bytearray(), bytearray()
        with self._using(key, digest):
            async with aclosing(events):  # type: ignore[type-var]  # generators, which can be closed
                async for event in events:
                    if len(received) <= MAX_STREAM_BYTES:
                        received += event
                    if end or _END.search(event):
                        end += event
                    else:
                        yield event
            if end:
                if len(received) <= MAX_STREAM_BYTES:
                    await self._keep(key, KeptAnswer(digest, EVENTS, bytes(received)))
                yield bytes(end)

    async def run(self) -> None:
        """Removes expired answers at intervals, until cancelled."""
        while True:
            with logging_errors("removing expired answers"):
                await self.queries.expire(self.clock())
            await asyncio.sleep(EXPIRY_INTERVAL_S)

    def _check_unused(self, key: MessageKey, digest: str) -> None:
        if (used_for := self._in_use.get(key)) is not None:
            raise IdempotencyKeyInUse if used_for == digest else IdempotencyKeyReused

    @contextmanager
    def _using(self, key: MessageKey, digest: str) -> Iterator[None]:
        self._check_unused(key, digest)
        self._in_use[key] = digest
        try:
            yield
        finally:
            del self._in_use[key]

    async def _keep(self, key: MessageKey, answer: KeptAnswer) -> None:
        try:
            await self.queries.add(key, answer, self.clock())
        except DataDirUnusable as problem:
            # The client still gets this answer; a repeated message goes to the agent again.
            log.warning("an answer could not be stored for its key: %s", problem)


def _key(instance_id: InstanceId, session_key: str, raw_key: str) -> MessageKey:
    if not 0 < len(raw_key) <= KEY_CHARACTERS:
        raise IdempotencyKeyInvalid(KEY_CHARACTERS)
    return MessageKey(instance_id, session_key, hashlib.sha256(raw_key.encode()).hexdigest())


def request_digest(request: Mapping[str, Any]) -> str:
    """A digest of the request's content, independent of its formatting."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
