"""The breakpoints that are set, and the model calls that they hold."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import HoldEnded
from chowder_local.core.events import ChangeSignal, EventType
from chowder_local.features.breakpoints.errors import BreakpointNotFound, HeldCallNotFound
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.core.events import Events
    from chowder_local.core.tasks import Shutdown
    from chowder_local.features.breakpoints.model import BreakpointMatch
    from chowder_local.relay.call_log import CallLog, ModelCall
    from chowder_local.relay.calls import RelayRequest
    from chowder_local.relay.holds import Release
    from chowder_local.relay.local_model import LocalModel

log = logging.getLogger(__name__)

MAX_HOLD_S = 600.0


@dataclass(frozen=True)
class Breakpoint:
    """What holds model calls of an instance; one that is for `once` goes with the first call."""

    match: BreakpointMatch
    once: bool
    set_at: datetime


@dataclass(eq=False, repr=False)
class HeldCall:
    """A model call that is held."""

    call: ModelCall
    organization_id: OrganizationId
    instance_id: InstanceId
    held_at: datetime
    until: datetime
    breakpoints: Breakpoints
    release: asyncio.Future[Release] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return self.breakpoints.clock() >= self.until

    async def wait(self, timeout_s: float) -> bool:
        """Whether it is let go, or its hold ends with the server, within so many seconds."""
        with self.breakpoints.shutdown.on_shutdown(lambda: self.stop("the server is stopping")):
            done, _ = await asyncio.wait({self.release}, timeout=timeout_s)
        return bool(done)

    async def released(self) -> Release:
        """How it goes on, once it is let go.

        Raises HoldEnded if its time is over, the server ends or its agent is deleted.
        """
        left_s = (self.until - self.breakpoints.clock()).total_seconds()
        if not await self.wait(max(0.0, left_s)):
            raise HoldEnded(_too_long(MAX_HOLD_S))
        return self.release.result()

    def stop(self, reason: str) -> None:
        """Ends the hold, unless it is let go: the call is not sent."""
        if not self.release.done():
            self.release.set_exception(HoldEnded(reason))
            # Perhaps nobody waits any more.
            self.release.exception()

    def end(self, how: str = "left") -> None:
        """Takes it off the list; only the first call counts."""
        self.breakpoints.end(self, how)


@dataclass(eq=False, repr=False, kw_only=True)
class Breakpoints:
    """The breakpoints that are set, one for each instance, and the calls that they hold.

    They are in memory only, and end with the server.
    """

    call_log: CallLog
    local_model: LocalModel
    events: Events
    shutdown: Shutdown
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._set: dict[InstanceId, Breakpoint] = {}
        self._held: dict[str, HeldCall] = {}
        self.changes = ChangeSignal()
        """A breakpoint is set or removed, or a call is held or let go."""

    def put(self, instance_id: InstanceId, match: BreakpointMatch, *, once: bool) -> Breakpoint:
        """Sets an instance's breakpoint, in place of a former one."""
        self._set[instance_id] = Breakpoint(match, once, self.clock())
        self.changes.notify()
        return self._set[instance_id]

    def of_instance(self, instance_id: InstanceId) -> Breakpoint | None:
        return self._set.get(instance_id)

    def get(self, instance_id: InstanceId) -> Breakpoint:
        """An instance's breakpoint. Raises BreakpointNotFound if it has none."""
        if (found := self.of_instance(instance_id)) is None:
            raise BreakpointNotFound
        return found

    def remove(self, instance_id: InstanceId) -> None:
        """Removes an instance's breakpoint, if it has one; calls that are held stay held."""
        if self._set.pop(instance_id, None) is not None:
            self.changes.notify()

    def is_active(self, instance_id: InstanceId) -> bool:
        """Whether an instance has a breakpoint or a held call."""
        return instance_id in self._set or self.is_holding(instance_id)

    def is_holding(self, instance_id: InstanceId) -> bool:
        return any(each.instance_id == instance_id for each in self._held.values())

    def forget(self, instance_id: InstanceId) -> None:
        """Removes the breakpoint of an instance that is deleted, and ends what it holds."""
        self.remove(instance_id)
        for each in list(self._held.values()):
            if each.instance_id == instance_id:
                each.stop("the agent was deleted")

    def held(
        self, organization_id: OrganizationId, instance_id: InstanceId | None = None
    ) -> list[HeldCall]:
        """The held calls of an organization, or of one instance of it, the longest held first."""
        return [
            each
            for each in self._held.values()
            if each.organization_id == organization_id and instance_id in {None, each.instance_id}
        ]

    async def wait_for_held(
        self, organization_id: OrganizationId, instance_id: InstanceId | None, wait_s: float
    ) -> list[HeldCall]:
        """As `held`; if there is none, waits for one, for `wait_s` or until the server stops."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        with self.changes.watching() as changed, self.shutdown.on_shutdown(changed.set):
            while True:
                changed.clear()
                found = self.held(organization_id, instance_id)
                if found or self.shutdown.has_begun or loop.time() >= until_s:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until_s):
                        await changed.wait()

    def find(self, organization_id: OrganizationId, call_id: str) -> HeldCall:
        """The held call with the id. Raises HeldCallNotFound if there is none."""
        held = self._held.get(call_id)
        if held is None or held.organization_id != organization_id or held.release.done():
            raise HeldCallNotFound
        return held

    def resume(self, organization_id: OrganizationId, call_id: str, release: Release) -> HeldCall:
        """Lets a held call go on. Raises HeldCallNotFound if there is none with the id."""
        held = self.find(organization_id, call_id)
        held.release.set_result(release)
        held.end(release.how)
        return held

    async def hold(self, request: RelayRequest, call: ModelCall) -> HeldCall | None:
        """Begins to hold a call; None if no breakpoint matches it."""
        instance_id, organization_id = call.instance_id, call.organization_id
        if instance_id is None or organization_id is None:
            return None
        found = self._set.get(instance_id)
        if found is None or not await self._matches(found.match, request, call):
            return None
        # Another call may have used it up, or somebody has removed it, while this one was compared.
        if self._set.get(instance_id) is not found:
            return None
        if found.once:
            del self._set[instance_id]
        now = self.clock()
        until = now + timedelta(seconds=MAX_HOLD_S)
        held = HeldCall(call, organization_id, instance_id, now, until, self)
        self._held[call.id] = held
        call.mark_held(is_held=True)
        log.info("instance %s: the model call %s is held", instance_id, call.id)
        self.changes.notify()
        self.events.publish(
            EventType.CALL_HELD, organization_id, instance_id, model_call_id=call.id
        )
        return held

    def end(self, held: HeldCall, how: str) -> None:
        """Takes a held call off the list."""
        if self._held.pop(held.call.id, None) is None:
            return
        held.call.mark_held(is_held=False)
        self.changes.notify()
        self.events.publish(
            EventType.CALL_RELEASED,
            held.organization_id,
            held.instance_id,
            model_call_id=held.call.id,
            how=how,
        )

    async def _matches(
        self, match: BreakpointMatch, request: RelayRequest, call: ModelCall
    ) -> bool:
        if match.call_number is not None:
            if call.instance_id is None or call.turn_id is None:
                return False
            calls = self.call_log.of_instance(call.instance_id)
            if sum(each.turn_id == call.turn_id for each in calls) != match.call_number:
                return False
        parsed = request.parse()
        if not isinstance(parsed, ParsedRequest):
            return False
        return await self.local_model.fits(match, request, call, parsed.conversation)


def _too_long(seconds: float) -> str:
    return f"nobody has let it go on within {seconds / 60:g} minutes"
