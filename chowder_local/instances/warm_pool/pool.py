"""Keeping as many warm sandboxes as are wanted, while instances leave memory and processor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.sandboxes import EngineSilent
from chowder_local.core.tasks import logging_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from chowder_local.core.domain import SandboxId, WarmSandbox
    from chowder_local.instances.lifecycle.capacity import Capacity
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.warm_pool.recycling import Recycling
    from chowder_local.instances.warm_pool.sandboxes import Demand, WarmSandboxes
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 5.0
SETTLE_S = 4.0
"""A new agent gets its first message soon: a boot beside that would take it twice as long."""
ENGINE_RETRY_S = 1.0
"""Between looks at an engine that is away: what was lost with it is made as soon as it is back."""
USED_KEPT_S = 300.0
"""For how long a sandbox that is blank again waits for an instance of its organization."""
MAX_PAUSE_S = 300.0
"""Between attempts to make a warm sandbox, after repeated failures."""
IDLE_PERCENT = 50.0
IDLE_SAMPLE_S = 0.5
IDLE_SAMPLES = 6


async def has_idle_processor() -> bool:
    """Whether the machine is mostly idle for half a second, within a few seconds.

    So neither the boot that has just ended counts, nor a short task.
    """
    psutil.cpu_percent()
    for _ in range(IDLE_SAMPLES):
        await asyncio.sleep(IDLE_SAMPLE_S)
        if psutil.cpu_percent() < IDLE_PERCENT:
            return True
    return False


@dataclass(eq=False, repr=False, kw_only=True)
class WarmPool:
    """Replaces warm sandboxes that were claimed, have died, or are out of date."""

    usual_size: int
    max_size: int
    boot_concurrency: int
    demand: Demand
    warm_sandboxes: WarmSandboxes
    recycling: Recycling
    queries: WarmSandboxQueries
    provisioner: Provisioner
    capacity: Capacity
    is_idle: Callable[[], Awaitable[bool]]

    def __post_init__(self) -> None:
        self._failures = 0
        self._is_engine_away = False
        self._is_new = True
        self.provisioner.on_end = self.demand.changed.set
        self.warm_sandboxes.on_claim = self.demand.changed.set
        self.problem: str | None = None
        """Why the latest warm sandbox could not be made; None if it could."""

    @property
    def size(self) -> int:
        """The number of warm sandboxes to have: it follows the demand between two settings."""
        if not self.usual_size:
            return 0
        return max(self.usual_size, min(self.demand.peak(), self.max_size))

    def reserve_booting(self) -> AbstractAsyncContextManager[Collection[SandboxId]]:
        """The warm sandboxes that are booting, for an instance that finds none ready."""
        return self.warm_sandboxes.reserve_booting()

    async def run(self) -> None:
        """Adjusts the pool at intervals, until cancelled."""
        while True:
            self.demand.changed.clear()
            with logging_errors("adjusting the warm pool"):
                while await self._engine_answers() and await self.adjust():
                    pass
            if await self._is_demanded(self._pause_s()):
                with logging_errors("looking at the warm pool"):
                    await self._settle()

    async def _settle(self) -> None:
        """Returns once nothing was demanded for a while, or at once if the pool runs short."""
        while await self._has_half():
            self.demand.changed.clear()
            if not await self._is_demanded(SETTLE_S):
                return

    async def _is_demanded(self, within_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                return await self.demand.changed.wait()
        return False

    async def _has_half(self) -> bool:
        found = await self.queries.all()
        # Used ones are for one organization alone.
        ready = [each for each in found if each.gateway_url and each.organization_id is None]
        return 0 < len(ready) * 2 >= self.size

    async def adjust(self) -> bool:
        """Discards and makes warm sandboxes; True if some were made, and more may be missing."""
        found = await self.queries.all()
        is_first, self._is_new = self._is_new, False
        if is_first:
            # A new server wants as many as it had in its earlier run, which knew the demand. They
            # may have ended with the engine.
            self.demand.add(sum(each.gateway_url is not None for each in found))
        fit = [each for each in found if await self._is_kept(each)]
        new = [each for each in fit if each.organization_id is None]
        used = [each for each in fit if each.organization_id is not None]
        late = [each for each in used if self.warm_sandboxes.age_s(each) > USED_KEPT_S]
        for surplus in {*new[self.size :], *used[max(self.size, self.max_size) :], *late}:
            with _isolated(surplus):
                if surplus.gateway_url is not None:
                    await self.warm_sandboxes.discard(surplus)
        with logging_errors("reading a blank home"):
            await self.warm_sandboxes.learn_from(new)
        # A failure with one may not keep it from being replaced.
        unfit = {each.sandbox_id for each in found} - {each.sandbox_id for each in fit}
        return await self._make_missing(unfit, is_first=is_first)

    async def _make_missing(self, unfit: Collection[SandboxId], *, is_first: bool) -> bool:
        """True if some were made, and none has failed. Raises EngineUnavailable."""
        making: set[asyncio.Task[bool]] = set()
        made: list[asyncio.Task[bool]] = []
        problem: ChowderError | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                self.demand.changed.clear()
                making = {each for each in making if not each.done()}
                # After a failure there is a pause.
                if problem is None and all(each.result() for each in made if each.done()):
                    try:
                        count = await self._wanted(len(making), unfit, is_first=is_first)
                    except ChowderError as failure:
                        # Raised here, it would cancel those that are being made.
                        problem, count = failure, 0
                    for _ in range(count):
                        task = tasks.create_task(self._make())
                        task.add_done_callback(lambda _: self.demand.changed.set())
                        making.add(task)
                        made.append(task)
                is_first = False
                if not making:
                    break
                # A claim may leave room for another boot, and each end does.
                await self.demand.changed.wait()
        if problem is not None:
            raise problem
        return bool(made) and all(each.result() for each in made)

    async def _wanted(
        self, making_count: int, unfit: Collection[SandboxId], *, is_first: bool
    ) -> int:
        """How many more to make now."""
        rows = [each for each in await self.queries.all() if each.sandbox_id not in unfit]
        new = [each for each in rows if each.organization_id is None]
        unclaimed_count = sum(each.gateway_url is None for each in new)
        # The processor bounds a boot: more boots at once would only delay all of them.
        slots = self.boot_concurrency - making_count - self.provisioner.boot_count
        wanted = min(self.size - len(new), slots)
        if wanted < 1:
            return 0
        # More than the usual number, or several beside those that instances wait for, are made only
        # while the processor is idle.
        usual = max(0, min(self.usual_size - len(new), 1 - unclaimed_count))
        # The first agent of a new server takes its first boot over, which therefore begins without
        # a look at the processor, and then has it for itself.
        is_alone = is_first and not new
        if wanted > usual and (is_alone or not await self.is_idle()):
            wanted = usual
        count = 0
        while count < wanted and await self.capacity.make_room_for_warm_sandbox(
            len(rows) + count, count, making_count
        ):
            count += 1
        return count

    async def _is_kept(self, warm: WarmSandbox) -> bool:
        """Whether it is fit; discards it otherwise."""
        # `adjust` waits for all that it makes: one without an address that nothing makes is what a
        # crash has left.
        with _isolated(warm):
            if warm.sandbox_id in self.recycling.in_progress or await self.warm_sandboxes.is_fit(
                warm
            ):
                return True
            if await self.warm_sandboxes.discard(warm):
                log.info("warm sandbox %s: discarded", warm.sandbox_id)
        return False

    async def _make(self) -> bool:
        try:
            await self.warm_sandboxes.make()
        except ChowderError as failure:
            if isinstance(failure, EngineSilent) or not await self._engine_answers():
                return False
            self._failures += 1
            if self.problem != str(failure):
                log.warning("a warm sandbox could not be made: %s", failure)
            self.problem = str(failure)
            return False
        self._failures, self.problem = 0, None
        return True

    async def _engine_answers(self) -> bool:
        # The reconciler reports it. An engine that is away is no failure of warm sandboxes.
        self._is_engine_away = not await self.warm_sandboxes.engine_answers()
        if self._is_engine_away:
            self._failures = 0
        return not self._is_engine_away

    def _pause_s(self) -> float:
        if self._is_engine_away:
            return ENGINE_RETRY_S
        return min(CHECK_INTERVAL_S * 2.0 ** min(self._failures, 10), MAX_PAUSE_S)


def _isolated(warm: WarmSandbox) -> AbstractContextManager[None]:
    """Logs a failure with one warm sandbox, so that the check goes on with the others."""
    return logging_errors(f"warm sandbox {warm.sandbox_id}: check")
