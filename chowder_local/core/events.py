"""Events of the server's decisions for followers, and signals of changes in memory."""

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

from cachetools import TTLCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from chowder_local.core.domain import InstanceId, OrganizationId


class ChangeSignal:
    """One event for each viewer. Use it in one event loop only."""

    def __init__(self) -> None:
        self._viewers: set[asyncio.Event] = set()

    @property
    def has_viewers(self) -> bool:
        return bool(self._viewers)

    @contextmanager
    def watching(self, changed: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """An event that is set at each change during the block; the viewer clears it.

        A viewer of several signals gives one event for all.
        """
        changed = changed or asyncio.Event()
        self._viewers.add(changed)
        try:
            yield changed
        finally:
            self._viewers.discard(changed)

    def notify(self) -> None:
        for changed in self._viewers:
            changed.set()


CAPACITY = 4000
"""The number of events that are kept for followers that reconnect or read slowly."""
QUIET_S = 15.0
"""After this time without an event, a follower gets a keepalive."""
WATCHED_S = 60.0
"""For so long a client that has left may come back, and gets what it has missed."""
WATCHED_KEPT = 4096


class EventType(StrEnum):
    """The types of this package's events; docs/reference/events.md describes each."""

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
    CALL_HELD = "call.held"
    CALL_RELEASED = "call.released"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_RESOLVED = "approval.resolved"
    BUDGET_SET = "budget.set"
    BUDGET_REMOVED = "budget.removed"
    BUDGET_EXCEEDED = "budget.exceeded"
    SNAPSHOT_MADE = "snapshot.made"
    SNAPSHOT_REMOVED = "snapshot.removed"
    INSTANCE_FORKED = "instance.forked"
    INSTANCE_RESTORED = "instance.restored"
    INSTANCE_RECOVERED = "instance.recovered"
    INSTANCE_HIBERNATED = "instance.hibernated"
    INSTANCE_RESUMED = "instance.resumed"
    CHANNEL_MESSAGE = "channel.message"
    CLOCK_SET = "clock.set"
    CLOCK_ADVANCED = "clock.advanced"
    MESSAGE_RECEIVED = "message.received"
    MESSAGE_SENT = "message.sent"
    TURN_BEGUN = "turn.begun"
    TURN_ENDED = "turn.ended"
    TOOL_BEGUN = "tool.begun"
    TOOL_ENDED = "tool.ended"
    TASK_BEGUN = "task.begun"
    TASK_ENDED = "task.ended"
    JOB_DUE = "job.due"
    JOB_BEGAN = "job.began"
    JOB_ENDED = "job.ended"
    JOB_MISSED = "job.missed"
    WEBHOOK_RECEIVED = "webhook.received"
    EVENTS_MISSED = "events.missed"
    """Never published: sent to a follower that resumes after an event that is not kept."""


@dataclass(frozen=True)
class Event:
    """An event; `organization_id` is None if it concerns all organizations."""

    number: int
    type: str
    """An `EventType`, or what another package's feature calls it."""
    at: datetime
    organization_id: OrganizationId | None
    instance_id: InstanceId | None
    members: Mapping[str, Any]


class Events:
    """The latest events and their followers. Used in one event loop."""

    def __init__(self, capacity: int = CAPACITY, quiet_s: float = QUIET_S) -> None:
        # Ids of events differ in each run of the server, so that no follower resumes wrongly.
        self._run_id = secrets.token_hex(4)
        self._kept: deque[Event] = deque(maxlen=capacity)
        self._followers: set[Follower] = set()
        self._watched: TTLCache[OrganizationId, None] = TTLCache(WATCHED_KEPT, WATCHED_S)
        """The organizations whose agents somebody has watched until a moment ago."""
        self._is_closed = False
        self._number = 0
        self.quiet_s = quiet_s

    def publish(
        self,
        kind: str,
        /,
        organization_id: OrganizationId | None = None,
        instance_id: InstanceId | None = None,
        **members: Any,
    ) -> None:
        """Publishes an event. It only adds to a bounded list: the followers render it."""
        self._number += 1
        at = datetime.now(UTC)
        self._kept.append(Event(self._number, kind, at, organization_id, instance_id, members))
        for follower in self._followers:
            follower.notify(self._kept[0].number)

    @property
    def follower_count(self) -> int:
        return len(self._followers)

    def is_watched(self, organization_id: OrganizationId | None) -> bool:
        """Whether somebody wants to see what the organization's agents do: tools and tasks.

        Nobody else finds out about these.
        """
        return organization_id in self._watched or any(
            each.is_watching and each.organization_id == organization_id for each in self._followers
        )

    @contextmanager
    def follow(
        self,
        organization_id: OrganizationId,
        last_id: str | None = None,
        *,
        instance_id: InstanceId | None = None,
        is_watching: bool = False,
    ) -> Iterator[Follower]:
        """A follower of an organization's events, after the event `last_id` or from now on.

        With `instance_id` it gets those of this instance only.
        """
        follower = Follower(
            self, organization_id, *self._begin(last_id), instance_id, is_watching=is_watching
        )
        self._followers.add(follower)
        if self._is_closed:
            follower.end()
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            if is_watching:
                self._watched[organization_id] = None

    def close(self) -> None:
        """Ends all followers after the present events, so that the server can stop."""
        self._is_closed = True
        for follower in self._followers:
            follower.end()

    @property
    def last_id(self) -> str:
        """The id of the latest event, from which a page that is rendered now can follow."""
        return self.id_of(self._number)

    def id_of(self, number: int) -> str:
        """An event's public id."""
        return f"{self._run_id}-{number}"

    def after(self, number: int) -> list[Event]:
        """The kept events after an event's number."""
        if not self._kept:
            return []
        return list(islice(self._kept, max(0, number + 1 - self._kept[0].number), None))

    def _begin(self, last_id: str | None) -> tuple[int, bool]:
        """The number after which a follower begins, and whether earlier events are lost."""
        if last_id is None:
            return self._number, False
        oldest = self._kept[0].number if self._kept else self._number + 1
        run_id, _, number = last_id.rpartition("-")
        # Parsing a very long number is slow, and none of ours is.
        if run_id != self._run_id or not (
            number.isascii() and number.isdigit() and len(number) < 20
        ):
            return oldest - 1, True
        last = min(int(number), self._number)
        return max(last, oldest - 1), last < oldest - 1


@dataclass(eq=False, repr=False)
class Follower:
    """A follower of events. It stores its position in the list only."""

    events: Events
    organization_id: OrganizationId
    number: int
    has_missed: bool
    instance_id: InstanceId | None = None
    is_watching: bool = False
    """Whether it wants to see what agents do: tools and tasks."""

    def __post_init__(self) -> None:
        self._is_over = False
        self._news = asyncio.Event()
        self._news.set()
        self.is_outrun = asyncio.Event()
        """Set if it reads so slowly that it would miss events. It then has to be dropped."""

    def notify(self, oldest: int) -> None:
        """Tells the follower that there is an event; `oldest` is the first number that is kept."""
        if self.number < oldest - 1:
            self.is_outrun.set()
        self._news.set()

    def end(self) -> None:
        """Ends the follower after the present events."""
        self._is_over = True
        self._news.set()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """New events as soon as there are any; an empty list is a keepalive."""
        if self.has_missed:
            now = datetime.now(UTC)
            yield [Event(self.number, EventType.EVENTS_MISSED, now, None, None, {})]
        sent_s = asyncio.get_running_loop().time()
        while not self.is_outrun.is_set():
            self._news.clear()
            events = self.events.after(self.number)
            if events:
                # Set before the yield, which lasts until the client has read the events.
                self.number = events[-1].number
            visible = [each for each in events if self._may_see(each)]
            if not events and self._is_over:
                return
            # Events of other organizations must neither be noticeable nor delay the keepalive.
            if visible or not (events or await self._has_news(sent_s + self.events.quiet_s)):
                yield visible
                sent_s = asyncio.get_running_loop().time()

    def _may_see(self, event: Event) -> bool:
        if event.organization_id not in (None, self.organization_id):
            return False
        return self.instance_id in (None, event.instance_id)

    async def _has_news(self, until_s: float) -> bool:
        try:
            async with asyncio.timeout_at(until_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True
