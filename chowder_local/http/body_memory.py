"""What the bodies of all model calls hold in memory together: beyond it, a call waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import BodiesTooMany, BodyTooLarge, ClientStalled
from chowder_local.http.bodies import PATIENCE_S, SLOWEST_BYTES_PER_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

UNCOUNTED_BYTES = 64 * 1024
"""Of every body: connections are bounded, and most bodies by far are no longer."""
WAIT_S = 30.0


class BodyMemory:
    """So many bytes for bodies that are longer than a little; the first to come is served first.

    Clients of one address hold `per_address_bytes` of them at most.
    """

    def __init__(self, total_bytes: int, per_address_bytes: int, wait_s: float = WAIT_S) -> None:
        self._total_bytes = total_bytes
        self._per_address_bytes = per_address_bytes
        self._wait_s = wait_s
        self._held: Counter[str] = Counter()
        self._waiting: list[_Wait] = []
        self._reading: dict[_Share, asyncio.Timeout] = {}

    @property
    def held_bytes(self) -> int:
        return self._held.total()

    @asynccontextmanager
    async def body(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        """The request's whole body, which holds its memory until the end of the block.

        Raises BodyTooLarge, BodiesTooMany, ClientStalled, and ClientDisconnect if the client
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
            async with asyncio.timeout_at(began_s + PATIENCE_S) as deadline:
                self._reading[share] = deadline
                async for chunk in request.stream():
                    body += chunk
                    # Counted, not believed: Content-Length may be absent or a lie.
                    if len(body) > max_bytes:
                        raise BodyTooLarge(max_bytes)
                    if len(body) > share.room_bytes:
                        # For all that it may become: two that wait twice may wait for each other.
                        deadline.reschedule(None)
                        waits_since_s = loop.time()
                        await self._grow(share, min(_length(request) or max_bytes, max_bytes))
                        began_s += loop.time() - waits_since_s
                    # A byte now and then would otherwise be waited for all day.
                    due_s = began_s + PATIENCE_S + len(body) / SLOWEST_BYTES_PER_S
                    deadline.reschedule(self._latest_s(share, due_s))
        except TimeoutError:
            if loop.time() < began_s + PATIENCE_S + len(body) / SLOWEST_BYTES_PER_S:
                raise BodiesTooMany(self._total_bytes) from None
            raise ClientStalled(PATIENCE_S) from None
        finally:
            self._reading.pop(share, None)
        self._shrink(share, len(body))
        return bytes(body)

    async def _grow(self, share: _Share, length: int) -> None:
        """Waits until the body may be so long. Raises BodiesTooMany."""
        wait = _Wait(share, length - share.held)
        self._waiting.append(wait)
        self._serve()
        if not wait.served.done():
            self._hurry()
        try:
            async with asyncio.timeout(self._wait_s):
                await wait.served
        except TimeoutError:
            raise BodiesTooMany(self._total_bytes) from None
        finally:
            if wait in self._waiting:
                self._waiting.remove(wait)
                self._serve()

    def _shrink(self, share: _Share, length: int) -> None:
        """Takes back what a body of this length does not need."""
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
                # It has been given up, and is about to go.
                continue
            share = wait.share
            # An address with its full share stands in nobody's way; a large body, in everyone's.
            if self._held[share.address] + wait.count > self._per_address_bytes:
                continue
            if self.held_bytes + wait.count > self._total_bytes:
                return
            self._held[share.address] += wait.count
            share.held += wait.count
            share.since_s = asyncio.get_running_loop().time()
            self._waiting.remove(wait)
            wait.served.set_result(None)

    def _hurry(self) -> None:
        """Bodies that arrive have to be there in time as soon as another waits."""
        for share, deadline in self._reading.items():
            if (due_s := deadline.when()) is not None and not deadline.expired():
                deadline.reschedule(self._latest_s(share, due_s))

    def _latest_s(self, share: _Share, due_s: float) -> float:
        """By when a body has to be there that may take until `due_s` if no other waits."""
        is_in_the_way = bool(self._waiting and share.held)
        return min(due_s, share.since_s + self._wait_s) if is_in_the_way else due_s


@dataclass(eq=False)
class _Share:
    """What one body holds."""

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
