"""Fault injection: the faults that are set, and which of them matches a call (pure)."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import FaultNotFound, FaultsFull
from chowder_local.core.events import ChangeSignal, EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.core.events import Events

log = logging.getLogger(__name__)

MAX_FAULTS_PER_ORGANIZATION = 100
MAX_FAULTS = 1000
"""The limit for all organizations together, because signing up needs no key."""


class FaultKind(StrEnum):
    """What a fault is injected into."""

    PROVISIONING = "provisioning"
    CREATE = "create"
    START = "start"
    STOP = "stop"
    MESSAGE = "message"
    STREAM = "stream"
    CALL = "call"
    CHANNEL = "channel"


class ChannelEffect(StrEnum):
    """What the local messenger does to an agent's next message, or to the next one for it."""

    REFUSED = "refused"
    CUT = "cut"
    TWICE = "twice"
    OUT_OF_ORDER = "out_of_order"
    LATE = "late"
    DISCONNECT = "disconnect"


@dataclass(frozen=True)
class FaultDraft:
    """A fault as a client describes it: which calls it matches, and what it does to them.

    Without a `status`, or for provisioning without a `detail`, the call succeeds after `delay_s`,
    and a stream breaks off after `after_events` events.
    """

    kind: FaultKind
    times: int = 1
    instance_id: InstanceId | None = None
    status: int | None = None
    detail: str | None = None
    retry_after_s: int | None = None
    delay_s: float = 0.0
    after_events: int | None = None
    method: str | None = None
    path: str | None = None
    channel: str | None = None
    effect: ChannelEffect | None = None


@dataclass(frozen=True)
class Fault:
    """A fault that is set; `left` is the number of calls into which it will be injected."""

    id: str
    organization_id: OrganizationId
    created_at: datetime
    draft: FaultDraft
    left: int


@dataclass(frozen=True)
class Call:
    """A request or a provisioning that a fault may match; `path` is the route's template."""

    kinds: Collection[FaultKind]
    method: str = ""
    path: str = ""
    instance_id: InstanceId | None = None
    channel: str | None = None
    effects: Collection[ChannelEffect | None] = (None,)


def matches(fault: FaultDraft, call: Call) -> bool:
    return (
        fault.kind in call.kinds
        and fault.instance_id in (None, call.instance_id)
        and fault.method in (None, call.method)
        and fault.channel in (None, call.channel)
        and fault.effect in call.effects
        and (fault.path is None or fnmatchcase(call.path, fault.path))
    )


@dataclass(eq=False, repr=False)
class Faults:
    """The faults that are set, oldest first; they end with the server."""

    events: Events
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self.are_set = False
        """Whether any organization has a fault; if not, calls skip the search."""
        self.changes = ChangeSignal()
        """A fault is set, applied or removed."""

    def add(self, organization_id: OrganizationId, draft: FaultDraft) -> Fault:
        """Sets a fault. Raises FaultsFull if the organization or the server has too many."""
        if len(self.of_organization(organization_id)) >= MAX_FAULTS_PER_ORGANIZATION:
            raise FaultsFull("An organization", MAX_FAULTS_PER_ORGANIZATION)
        if len(self._faults) >= MAX_FAULTS:
            raise FaultsFull("The organizations of a server together", MAX_FAULTS)
        fault = Fault(str(uuid.uuid4()), organization_id, self.clock(), draft, draft.times)
        self._faults[fault.id] = fault
        self.are_set = True
        self.changes.notify()
        return fault

    def of_organization(self, organization_id: OrganizationId) -> list[Fault]:
        """The faults of an organization, oldest first."""
        return [each for each in self._faults.values() if each.organization_id == organization_id]

    def remove(self, organization_id: OrganizationId, fault_id: str) -> None:
        """Removes a fault. Raises FaultNotFound if the organization has no such fault."""
        fault = self._faults.get(fault_id)
        if fault is None or fault.organization_id != organization_id:
            raise FaultNotFound
        self._forget(fault)

    def clear(self, organization_id: OrganizationId) -> int:
        """Removes all faults of an organization, and returns their number."""
        faults = self.of_organization(organization_id)
        for fault in faults:
            self._forget(fault)
        return len(faults)

    def find(self, organization_id: OrganizationId, call: Call) -> Fault | None:
        """The oldest fault that matches the call. Does not use it up."""
        faults = self.of_organization(organization_id)
        return next((each for each in faults if matches(each.draft, call)), None)

    def take(self, organization_id: OrganizationId, call: Call) -> FaultDraft | None:
        """The oldest fault that matches the call. Uses it up once, and publishes an event."""
        fault = self.find(organization_id, call)
        if fault is None:
            return None
        fault = replace(fault, left=fault.left - 1)
        if fault.left:
            self._faults[fault.id] = fault
            self.changes.notify()
        else:
            self._forget(fault)
        kind, left = fault.draft.kind, fault.left
        log.info("fault %s (%s) is applied, %d left", fault.id, kind, left)
        self.events.publish(
            EventType.FAULT_APPLIED,
            organization_id,
            call.instance_id,
            fault_id=fault.id,
            fault=kind,
            left=left,
        )
        return fault.draft

    def _forget(self, fault: Fault) -> None:
        del self._faults[fault.id]
        self.are_set = bool(self._faults)
        self.changes.notify()
