"""Moving an instance's home into a warm sandbox, which spares a boot."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cachetools import TTLCache

from chowder_local.core.domain import SandboxState
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.requests import ArchiveRefused

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, InstanceId, WarmSandbox
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.snapshots.home_copies import HomeCopies
    from chowder_local.instances.transitions import Transitions
    from chowder_local.instances.warm_pool.fit import Fit
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

REFUSALS_KEPT = 1024
REFUSAL_KEPT_S = 3600.0
"""For how long an instance whose home could not be moved is booted: an attempt costs a sandbox."""


@dataclass(eq=False, repr=False, kw_only=True)
class Rehydration:
    """Brings an instance back in a warm sandbox, if one is ready or boots already."""

    fit: Fit
    queries: WarmSandboxQueries
    warm_sandboxes: WarmSandboxes
    home_copies: HomeCopies
    engine: Engine
    transitions: Transitions
    sandbox_control: SandboxControl

    def __post_init__(self) -> None:
        self._refused: TTLCache[InstanceId, bool] = TTLCache(REFUSALS_KEPT, REFUSAL_KEPT_S)

    async def move(self, instance: Instance) -> Instance | None:
        """The instance with its new sandbox and that gateway's address; None if it must be booted.

        The volume stays until the home is on the new one's disk and the row names the new sandbox,
        so nothing is lost at any moment.
        """
        if instance.first_ready_at is None or instance.id in self._refused:
            return None
        fingerprint = await self.fit.wanted(instance)
        async with AsyncExitStack() as stack:
            async with self.warm_sandboxes.reserve_booting() as booting:
                reserving = self.queries.reserve(instance, fingerprint, booting)
                warm = await stack.enter_async_context(reserving)
            if warm is None:
                return None
            url = await self._wake(warm, instance)
            moved = url and await self.transitions.move_sandbox(instance, warm.sandbox_id)
            # After a cancellation the reconciler removes what no row names: a row may have been
            # written although its call was cancelled.
            await self.sandbox_control.discard(instance.sandbox_id if moved else warm.sandbox_id)
        if not moved:
            return None
        log.info("instance %s: moved to sandbox %s", instance.id, warm.sandbox_id)
        return replace(moved, gateway_url=url)

    async def _wake(self, warm: WarmSandbox, instance: Instance) -> str | None:
        """The gateway's address in the warm sandbox, once it has the home; None if that fails."""
        try:
            former = await self.engine.inspect(instance.sandbox_id)
            if former.state is SandboxState.RUNNING:
                # All its files are then of one moment, as after a power cut.
                await self.engine.pause(instance.sandbox_id)
            moved = replace(instance, sandbox_id=warm.sandbox_id)
            async with self.home_copies.open(instance) as copy:
                return await self.warm_sandboxes.wake(moved, warm, copy)
        except ChowderError as problem:
            if isinstance(problem, (ArchiveRefused, GatewayUnavailable)):
                self._refused[instance.id] = True
            log.info("instance %s: is booted, not moved: %s", instance.id, problem)
            return None
