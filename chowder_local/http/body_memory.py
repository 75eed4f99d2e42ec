"""Bounds the memory of the bodies of all model calls together: beyond it, a call waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import BodiesTooMany, BodyTooLarge, ClientStalled
from chowder_local.http.bodies import BODY_TIMEOUT_S, MIN_BYTES_PER_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

UNCOUNTED_BYTES = 64 * 1024
"""Up to this size a body is not counted: connections are bounded, and few bodies are longer."""
WAIT_S = 30.0


@dataclass(eq=False, repr=False)
class BodyMemory:
    """`total_bytes` of memory for request bodies; the first to ask is served first.

    The clients of one address hold at most `per_address_bytes` of it.
    """

    total_bytes: int
    per_address_bytes: int
    wait_s: float = WAIT_S

    def __post_init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._waiting: list[_Wait] = []
        self._reading: dict[_Share, asyncio.Timeout] = {}

    @property
    def held_bytes(self) -> int:
        return self._held.total()

    @asynccontextmanager
    async def body(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        """Reads the request's whole body, which holds its memory until the end of the block.

        Raises BodyTooLarge if it is longer than `max_bytes`, BodiesTooMany if there is no memory
        for it in time, ClientStalled if it arrives too slowly, and ClientDisconnect if the client
        leaves.
        """
        share = _Share(request.client.host if request.client else "")
        try:
            yield await self._read(request, share, max_bytes)
        finally:
            self._shrink(share, 0)

    async def _read(self, request: Request, share: _Share, max_bytes: int) -> bytes:
        body, loop = bytearray(), asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout_at(began_s + BODY_TIMEOUT_S) as deadline:
                self._reading[share] = deadline
                async for chunk in request.stream():
                    body += chunk
                    # Content-Length may be absent or wrong.
                    if len(body) > max_bytes:
                        raise BodyTooLarge(max_bytes)
                    if len(body) > share.room_bytes:
                        # Reserves the final size: two bodies that wait twice could deadlock.
                        deadline.reschedule(None)
                        waits_since_s = loop.time()
                        await self._grow(share, min(_length(request) or max_bytes, max_bytes))
                        began_s += loop.time() - waits_since_s
                    # A minimum rate, because a client may send a byte now and then without end.
                    due_s = began_s + BODY_TIMEOUT_S + len(body) / MIN_BYTES_PER_S
                    deadline.reschedule(self._latest_s(share, due_s))
        except TimeoutError:
            if loop.time() < began_s + BODY_TIMEOUT_S + len(body) / MIN_BYTES_PER_S:
                raise BodiesTooMany(self.total_bytes) from None
            raise ClientStalled(BODY_TIMEOUT_S) from None
        finally:
            self._reading.pop(share, None)
        self._shrink(share, len(body))
        return bytes(body)

    async def _grow(self, share: _Share, length: int) -> None:
        """Waits until `length` bytes are reserved. Raises BodiesTooMany after `wait_s`."""
        wait = _Wait(share, length - share.held)
        self._waiting.append(wait)
        self._serve()
        if not wait.served.done():
            self._hurry()
        try:
            async with asyncio.timeout(self.wait_s):
                await wait.served
        except TimeoutError:
            raise BodiesTooMany(self.total_bytes) from None
        finally:
            if wait in self._waiting:
                self._waiting.remove(wait)
                self._serve()

    def _shrink(self, share: _Share, length: int) -> None:
        """Releases the memory that a body of this length does not need."""
        kept = length if length > UNCOUNTED_BYTES else 0
        if share.held <= kept:
            return
        self._held[share.address] -= share.held - kept
        share.held = kept
        if not self._held[share.address]:
            del self._held[share.address]
        self._serve()

    def _serve(self) -> None:
        for wait in list(self._waiting):
            if wait.served.done():
                # It has timed out, and is about to be removed.
                continue
            share = wait.share
            # An address at its limit delays no other; a body that does not fit delays all after it.
            if self._held[share.address] + wait.count > self.per_address_bytes:
                continue
            if self.held_bytes + wait.count > self.total_bytes:
                return
            self._held[share.address] += wait.count
            share.held += wait.count
            share.since_s = asyncio.get_running_loop().time()
            self._waiting.remove(wait)
            wait.served.set_result(None)

    def _hurry(self) -> None:
        """Shortens the deadlines of the bodies that hold memory for which another one waits."""
        for share, deadline in self._reading.items():
            if (due_s := deadline.when()) is not None and not deadline.expired():
                deadline.reschedule(self._latest_s(share, due_s))

    def _latest_s(self, share: _Share, due_s: float) -> float:
        """A body's deadline: `due_s`, or sooner if it holds memory for which another one waits."""
        is_in_the_way = bool(self._waiting and share.held)
        return min(due_s, share.since_s + self.wait_s) if is_in_the_way else due_s


@dataclass(eq=False)
class _Share:
    """The memory that one body holds."""

    address: str
    held: int = 0
    since_s: float = 0.0

    @property
    def room_bytes(self) -> int:
        return max(self.held, UNCOUNTED_BYTES)


@dataclass(eq=False)
class _Wait:
    share: _Share
    count: int
    served: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


def _length(request: Request) -> int:
    length = request.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else 0
