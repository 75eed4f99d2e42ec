"""What the overview says of an instance, gathered from where it is known."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import Instance, InstanceStatus
from chowder_local.dashboard.services import dashboard
from chowder_local.dashboard.sparkline import Chart, cpu_chart, memory_chart
from chowder_local.http.services import services
from chowder_local.instances.snapshots.service import TAKABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from starlette.requests import Request

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import LoggedCall

WORDS_MAX = 120
STAGES = ("queued", "booting", "running")


@dataclass(frozen=True)
class LastCall:
    """An agent's latest model call."""

    at: datetime
    model: str
    words: str
    """What a person said, or the beginning of that."""
    is_over: bool
    error: str | None


@dataclass(frozen=True)
class Row:
    """A line of the list; `stage` is at which of STAGES one is that is on its way."""

    instance: Instance
    stage: int | None
    waits: str | None
    memory: Chart | None
    cpu: Chart | None
    last_call: LastCall | None

    @property
    def can_stop(self) -> bool:
        """Whether it runs."""
        return self.instance.status is InstanceStatus.RUNNING

    @property
    def can_start(self) -> bool:
        """Whether it was stopped."""
        return self.instance.status is InstanceStatus.STOPPED

    @property
    def can_fork(self) -> bool:
        """Whether there is something to copy."""
        return self.instance.status in TAKABLE and self.instance.first_ready_at is not None


async def rows(request: Request, instances: Sequence[Instance]) -> list[Row]:
    """A line for each."""
    known = services(request).exchanges.latest()
    exchanges = [known[each.id] for each in instances if each.id in known]
    # Each is read once, but that takes a millisecond.
    calls = await asyncio.to_thread(_last_calls, exchanges)
    return [_row(request, each, calls.get(each.id)) for each in instances]


def _row(request: Request, instance: Instance, last_call: LastCall | None) -> Row:
    stage, waits = _stage(request, instance)
    is_running = instance.status is InstanceStatus.RUNNING
    gauge = dashboard(request).usage_samples.of(instance.id) if is_running else None
    return Row(
        instance=instance,
        stage=stage,
        waits=waits,
        memory=None if gauge is None else memory_chart(gauge),
        cpu=None if gauge is None else cpu_chart(gauge),
        last_call=last_call,
    )


def _stage(request: Request, instance: Instance) -> tuple[int | None, str | None]:
    if instance.status is not InstanceStatus.PROVISIONING:
        return None, None
    known = services(request)
    if (position := known.boot_queue.position(instance.id)) is not None:
        return 0, f"waits for its turn: number {position}"
    # Without a boot under way, the reconciler begins one as soon as it can.
    return (1, None) if known.provisioner.is_in_progress(instance.id) else (0, None)


def _last_calls(exchanges: Iterable[LoggedCall]) -> dict[InstanceId | None, LastCall]:
    return {
        each.instance_id: LastCall(
            at=each.at,
            model=each.model or each.provider,
            words=(each.last_message or "")[:WORDS_MAX],
            is_over=each.outcome is not None,
            error=each.error,
        )
        for each in exchanges
    }
