"""What the bodies of all requests hold in memory together: who comes when it is much waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import BodiesTooMany

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Scope

UNCOUNTED_BYTES = 64 * 1024
"""Of every body: connections are bounded, and most bodies by far are no longer."""
LARGEST_AT_ONCE = 4
WAIT_S = 30.0

_SHARE = "chowder.share"


class BodyMemory:
    """So many bytes for bodies that are longer than a little; the first to come is served first.

    `of_one` of them at most are for clients of the same address.
    """

    def __init__(self, total: int, of_one: int | None = None, wait_s: float = WAIT_S) -> None:
        self._total = total
        self._of_one = total if of_one is None else of_one
        self._wait_s = wait_s
        self._held: Counter[str] = Counter()
        self._waiting: list[_Wait] = []
        self._reading: dict[Share, asyncio.Timeout] = {}

    @property
    def held_bytes(self) -> int:
        """What is held now."""
        return self._held.total()

    @property
    def total_bytes(self) -> int:
        """What may be held."""
        return self._total

    def share(self, scope: Scope) -> Share:
        """The share of a request's body, which is given back with `give_back`."""
        client = scope.get("client")
        share = scope[_SHARE] = Share(self, client[0] if client else "")
        return share

    async def take(self, share: Share, count: int) -> None:
        """Raises BodiesTooMany when the wait for so many bytes takes too long."""
        wait = _Wait(share, count)
        self._waiting.append(wait)
        self._serve()
        if not wait.served.done():
            self._hurry()
        try:
            async with asyncio.timeout(self._wait_s):
                await wait.served
        except TimeoutError:
            raise BodiesTooMany(self._total) from None
        finally:
            if wait in self._waiting:
                self._waiting.remove(wait)
                self._serve()

    def give(self, share: Share, count: int) -> None:
        """Takes back what a share has no use for any more."""
        share.held -= count
        self._held[share.owner] -= count
        if not self._held[share.owner]:
            del self._held[share.owner]
        self._serve()

    def _serve(self) -> None:
        for wait in list(self._waiting):
            if wait.served.done():
                # It has been given up, and is about to go.
                continue
            # Who has as much as one may have stands in nobody's way; who needs much, in everyone's.
            if self._held[wait.share.owner] + wait.count > self._of_one:
                continue
            if self.held_bytes + wait.count > self._total:
                return
            self._held[wait.share.owner] += wait.count
            wait.share.held += wait.count
            wait.share.since_s = asyncio.get_running_loop().time()
            self._waiting.remove(wait)
            wait.served.set_result(None)

    @contextmanager
    def reading(self, share: Share, deadline: asyncio.Timeout) -> Iterator[None]:
        """While a body arrives, which has to be there in time as soon as somebody waits."""
        self._reading[share] = deadline
        try:
            yield
        finally:
            del self._reading[share]

    def latest_s(self, share: Share, wanted_s: float) -> float:
        """By when a body has to be there whose client may take until `wanted_s` otherwise."""
        is_in_the_way = bool(self._waiting and share.held)
        return min(wanted_s, share.since_s + self._wait_s) if is_in_the_way else wanted_s

    def _hurry(self) -> None:
        for share, deadline in self._reading.items():
            if (due_s := deadline.when()) is not None and not deadline.expired():
                deadline.reschedule(self.latest_s(share, due_s))


@dataclass(eq=False)
class Share:
    """What one body holds."""

    body_memory: BodyMemory
    owner: str
    held: int = 0
    since_s: float = 0.0

    @property
    def room_bytes(self) -> int:
        """How long the body may be."""
        return max(self.held, UNCOUNTED_BYTES)

    async def grow(self, length: int) -> None:
        """Waits until the body may be so long. Raises BodiesTooMany."""
        if length > self.room_bytes:
            await self.body_memory.take(self, length - self.held)

    def shrink(self, length: int) -> None:
        """Gives back what a body of this length does not need."""
        kept = length if length > UNCOUNTED_BYTES else 0
        if self.held > kept:
            self.body_memory.give(self, self.held - kept)


@dataclass(eq=False)
class _Wait:
    share: Share
    count: int
    served: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


def give_back(scope: Scope) -> None:
    """Ends the share of a request that is over, if it had one."""
    share: Share | None = scope.get(_SHARE)
    if share is not None:
        share.shrink(0)
