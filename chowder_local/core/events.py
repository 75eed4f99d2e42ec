"""Events: what the server decides, published as it happens to all who follow."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from chowder_local.core.domain import InstanceId, OrganizationId

CAPACITY = 1000
"""Of the latest events, for followers that come back or read slowly."""
QUIET_S = 15.0
"""After so long without an event there is a sign of life."""


class EventType(StrEnum):
    """The documented list; what each has besides `type` and `at` is in README."""

    INSTANCE_STATUS = "instance.status"
    BOOT_QUEUED = "boot.queued"
    BOOT_BEGUN = "boot.begun"
    BOOT_ENDED = "boot.ended"
    WARM_SANDBOX_MADE = "warm_sandbox.made"
    WARM_SANDBOX_CLAIMED = "warm_sandbox.claimed"
    WARM_SANDBOX_DISCARDED = "warm_sandbox.discarded"
    SANDBOX_RELEASED = "sandbox.released"
    SANDBOX_RESUMED = "sandbox.resumed"
    SANDBOX_RECONCILED = "sandbox.reconciled"
    SANDBOX_REMOVED = "sandbox.removed"
    ENGINE_LOST = "engine.lost"
    ENGINE_BACK = "engine.back"
    MODEL_FAILED = "model.failed"
    FAULT_APPLIED = "fault.applied"
    SNAPSHOT_MADE = "snapshot.made"
    SNAPSHOT_REMOVED = "snapshot.removed"
    INSTANCE_FORKED = "instance.forked"
    INSTANCE_RESTORED = "instance.restored"
    EVENTS_MISSED = "events.missed"
    """Never published: sent to a follower that resumes after what is not kept any more."""


@dataclass(frozen=True)
class Event:
    """Something that was decided; `organization_id` is None if it concerns all."""

    number: int
    type: EventType
    at: datetime
    organization_id: OrganizationId | None
    instance_id: InstanceId | None
    more: Mapping[str, Any]


class Events:
    """The latest events, and those who follow them. Used in one event loop."""

    def __init__(self, capacity: int = CAPACITY, quiet_s: float = QUIET_S) -> None:
        # Another one in each life of the server, so that nobody resumes in the wrong one.
        self._life = secrets.token_hex(4)
        self._kept: deque[Event] = deque(maxlen=capacity)
        self._followers: set[Follower] = set()
        self._is_closed = False
        self._number = 0
        self.quiet_s = quiet_s

    def publish(
        self,
        kind: EventType,
        organization_id: OrganizationId | None = None,
        instance_id: InstanceId | None = None,
        **more: Any,
    ) -> None:
        """Publishes an event; it costs an entry in a bounded list, and followers render it."""
        self._number += 1
        at = datetime.now(UTC)
        self._kept.append(Event(self._number, kind, at, organization_id, instance_id, more))
        for follower in self._followers:
            follower.notice(self._kept[0].number)

    @property
    def follower_count(self) -> int:
        """How many follow."""
        return len(self._followers)

    @contextmanager
    def follow(
        self, organization_id: OrganizationId, last_id: str | None = None
    ) -> Iterator[Follower]:
        """Follows what an organization may see, from now on or from after the event of that id."""
        follower = Follower(self, organization_id, *self._begin(last_id))
        self._followers.add(follower)
        if self._is_closed:
            follower.end()
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def close(self) -> None:
        """Ends all followers once they have what is there, so that a server can stop."""
        self._is_closed = True
        for follower in self._followers:
            follower.end()

    @property
    def last_id(self) -> str:
        """The id of the latest event, after which a page that is rendered now can follow."""
        return self.id_of(self._number)

    def id_of(self, number: int) -> str:
        """An event's id, as clients know it."""
        return f"{self._life}-{number}"

    def after(self, number: int) -> list[Event]:
        """The events that are kept and later than that one."""
        if not self._kept:
            return []
        return list(islice(self._kept, max(0, number + 1 - self._kept[0].number), None))

    def _begin(self, last_id: str | None) -> tuple[int, bool]:
        """After which event to begin, and whether some before it are lost."""
        if last_id is None:
            return self._number, False
        oldest = self._kept[0].number if self._kept else self._number + 1
        life, _, number = last_id.rpartition("-")
        # A number that is too long to be one of ours would take its time to be read.
        if life != self._life or not (number.isascii() and number.isdigit() and len(number) < 20):
            return oldest - 1, True
        last = min(int(number), self._number)
        return max(last, oldest - 1), last < oldest - 1


class Follower:
    """One that follows; it keeps nothing but its place in the list."""

    def __init__(
        self, events: Events, organization_id: OrganizationId, number: int, has_missed: bool
    ) -> None:
        self._events = events
        self._organization_id = organization_id
        self._number = number
        self._has_missed = has_missed
        self._is_over = False
        self._news = asyncio.Event()
        self._news.set()
        self.is_outrun = asyncio.Event()
        """Set once it has read so slowly that it would miss events: it has to be dropped."""

    def notice(self, oldest: int) -> None:
        """There is an event; the oldest that is kept has that number."""
        if self._number < oldest - 1:
            self.is_outrun.set()
        self._news.set()

    def end(self) -> None:
        """Lets it read what is there and then end."""
        self._is_over = True
        self._news.set()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """New events, as soon as there are any; an empty list is a sign of life."""
        if self._has_missed:
            now = datetime.now(UTC)
            yield [Event(self._number, EventType.EVENTS_MISSED, now, None, None, {})]
        sent_s = asyncio.get_running_loop().time()
        while not self.is_outrun.is_set():
            self._news.clear()
            found = self._events.after(self._number)
            if found:
                # Before they are sent, which takes as long as the client takes to read.
                self._number = found[-1].number
            seen = [each for each in found if self._may_see(each)]
            if not found and self._is_over:
                return
            # Others' events must neither be noticed nor suppress the sign of life.
            if seen or not (found or await self._has_news(sent_s + self._events.quiet_s)):
                yield seen
                sent_s = asyncio.get_running_loop().time()

    def _may_see(self, event: Event) -> bool:
        return event.organization_id in (None, self._organization_id)

    async def _has_news(self, until_s: float) -> bool:
        try:
            async with asyncio.timeout_at(until_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True
