"""Keeping running instances in memory while they are used; hibernated ones are brought back."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import (
    DiskFull,
    EngineUnavailable,
    HostFull,
    ImageMissing,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.instance_uses import InstanceUses
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.lifecycle.waking import Waking
    from chowder_local.instances.transitions import Transitions

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False, kw_only=True)
class InMemory:
    """The one way to a running agent: whoever calls its sandbox holds it in memory by `using`."""

    uses: InstanceUses
    directory: InstanceDirectory
    transitions: Transitions
    locks: KeyedLocks
    waking: Waking
    sandbox_control: SandboxControl
    group: asyncio.TaskGroup

    def __post_init__(self) -> None:
        self._coming_back: dict[InstanceId, asyncio.Future[Instance]] = {}

    @asynccontextmanager
    async def using(self, instance: Instance) -> AsyncIterator[Instance]:
        """A running instance, in memory during the block; waits if it was hibernated.

        Raises InstanceStateWrong if it does not run, and what `wake` raises.
        """
        if instance.status is not InstanceStatus.RUNNING:
            raise InstanceStateWrong(
                instance.status, InstanceStatus.RUNNING, instance.error_message
            )
        with self.uses.using(instance.id):
            if self.uses.is_stale(instance):
                instance = await self._current(instance)
            yield instance

    async def _current(self, stale: Instance) -> Instance:
        # It goes on if the caller leaves: a boot takes longer than some clients wait.
        pending = self._coming_back.get(stale.id)
        if pending is None:
            pending = self._coming_back[stale.id] = asyncio.get_running_loop().create_future()
            work = self._settle(stale, pending)
            self.group.create_task(work, name=f"bring back {stale.id}")
        return await asyncio.shield(pending)

    async def _settle(self, stale: Instance, pending: asyncio.Future[Instance]) -> None:
        try:
            async with self.locks.holding(stale.id):
                current = await self.directory.current(stale, InstanceStatus.RUNNING)
                instance = await self.bring_back(current)
                self.uses.end_leaving(instance)
            pending.set_result(instance)
        except Exception as problem:  # noqa: BLE001 - raised to those who wait
            pending.set_exception(problem)
            # Perhaps nobody waits any more.
            pending.exception()
        finally:
            del self._coming_back[stale.id]
            pending.cancel()

    async def allow_hibernation(self, stale: Instance, is_allowed: bool) -> Instance:
        """The instance, which may hibernate from now on; or not, and then it is in memory.

        Raises InstanceNotFound, and what `wake` raises.
        """
        async with self.locks.holding(stale.id):
            instance = await self.directory.current(stale)
            changed = await self.transitions.update(instance, may_hibernate=is_allowed)
            if changed is None:
                raise InstanceNotFound
            return changed if is_allowed else await self.bring_back(changed)

    async def bring_back(self, instance: Instance) -> Instance:
        """As `using`, for a caller who holds the lock of an instance read under it."""
        if not instance.is_hibernated:
            return instance
        resumed = await self.transitions.wake(await self.wake(instance))
        if resumed is None:
            await self.directory.raise_status_changed(instance)
        self.uses.end_leaving(resumed)
        log.info("instance %s: resumed from hibernation", instance.id)
        return resumed

    async def wake(self, instance: Instance) -> Instance:
        """As `Waking.wake`; the caller holds the instance's lock.

        If the agent cannot run again, the instance becomes an `error`. Raises ChowderError.
        """
        try:
            return await self.waking.wake(instance)
        except (EngineUnavailable, HostFull, ImageMissing, DiskFull):
            # It stays as it is: a later attempt may succeed.
            raise
        except ChowderError as failure:
            await self.transitions.to_error(instance, str(failure))
            raise

    async def wait_until_resumed(self, instance: Instance) -> None:
        """Waits for a stop in progress. Raises InstanceStateWrong if the agent is stopped then."""
        current = await self.sandbox_control.resume(instance)
        if current.status is not InstanceStatus.RUNNING:
            raise InstanceStateWrong(current.status, InstanceStatus.RUNNING, current.error_message)
