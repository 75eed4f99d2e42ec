"""Fault injection: which faults are set, and which of them matches a call (pure)."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import FaultNotFound, FaultsFull
from chowder_local.core.events import EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.core.events import Events

log = logging.getLogger(__name__)

MOST_OF_ONE = 100
"""Faults that an organization may have at once."""
MOST = 1000
"""Faults of all of them together: anybody may sign up."""


class FaultKind(StrEnum):
    """What a fault is injected into."""

    PROVISIONING = "provisioning"
    CREATE = "create"
    START = "start"
    STOP = "stop"
    MESSAGE = "message"
    STREAM = "stream"
    CALL = "call"


@dataclass(frozen=True)
class FaultDraft:
    """A fault as it is asked for: which calls it matches, and what happens then.

    Without a `status`, and for provisioning without a `detail`, the call succeeds; but only after
    `delay_s`, and of a stream come no more than `after_events`.
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


@dataclass(frozen=True)
class Fault:
    """A fault that waits for its next call."""

    id: str
    organization_id: OrganizationId
    created_at: datetime
    draft: FaultDraft
    left: int


@dataclass(frozen=True)
class Call:
    """Something that a fault may be injected into: a request, or an instance's provisioning.

    `path` is the route's template.
    """

    kinds: Collection[FaultKind]
    method: str = ""
    path: str = ""
    instance_id: InstanceId | None = None


def matches(fault: FaultDraft, call: Call) -> bool:
    return (
        fault.kind in call.kinds
        and fault.instance_id in (None, call.instance_id)
        and fault.method in (None, call.method)
        and (fault.path is None or fnmatchcase(call.path, fault.path))
    )


class Faults:
    """The faults that are set, in the order in which they were; none outlives the server."""

    def __init__(self, events: Events, clock: Callable[[], datetime]) -> None:
        self._events = events
        self._clock = clock
        self._faults: dict[str, Fault] = {}
        self.are_set = False
        """Whether there is any at all; until then, no call looks for one."""

    def add(self, organization_id: OrganizationId, draft: FaultDraft) -> Fault:
        """Sets one. Raises FaultsFull."""
        if len(self.of(organization_id)) >= MOST_OF_ONE or len(self._faults) >= MOST:
            raise FaultsFull(MOST_OF_ONE)
        fault = Fault(str(uuid.uuid4()), organization_id, self._clock(), draft, draft.times)
        self._faults[fault.id] = fault
        self.are_set = True
        return fault

    def of(self, organization_id: OrganizationId) -> list[Fault]:
        """An organization's, the oldest first."""
        return [each for each in self._faults.values() if each.organization_id == organization_id]

    def remove(self, organization_id: OrganizationId, fault_id: str) -> None:
        """Takes one back. Raises FaultNotFound, for others' ones too."""
        fault = self._faults.get(fault_id)
        if fault is None or fault.organization_id != organization_id:
            raise FaultNotFound
        self._forget(fault)

    def clear(self, organization_id: OrganizationId) -> int:
        """Takes all of an organization's back; how many there were."""
        found = self.of(organization_id)
        for fault in found:
            self._forget(fault)
        return len(found)

    def find(self, organization_id: OrganizationId, call: Call) -> Fault | None:
        """The next fault for such a call, left as it is."""
        found = self.of(organization_id)
        return next((each for each in found if matches(each.draft, call)), None)

    def take(self, organization_id: OrganizationId, call: Call) -> FaultDraft | None:
        """The next fault for such a call, which it uses up."""
        fault = self.find(organization_id, call)
        if fault is None:
            return None
        fault = replace(fault, left=fault.left - 1)
        if fault.left:
            self._faults[fault.id] = fault
        else:
            self._forget(fault)
        kind, left = fault.draft.kind, fault.left
        log.info("fault %s (%s) is applied, %d left", fault.id, kind, left)
        self._events.publish(
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
