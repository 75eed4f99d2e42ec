"""Moving an instance's home into a warm sandbox, which spares a boot."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cachetools import TTLCache

from chowder_local.core.domain import SandboxState, SnapshotId
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.requests import ArchiveRefused
from chowder_local.core.tasks import owned_tasks
from chowder_local.instances.configuration.initial_config import SnapshotSource
from chowder_local.instances.snapshots.service import HOME_PREFIX
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.home import sanitize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from chowder_local.core.domain import Instance, InstanceId, WarmSandbox
    from chowder_local.instances.lifecycle.agents import Agent, Agents
    from chowder_local.instances.snapshots.archives import Archives
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes, WarmSandboxMatcher
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

REFUSALS_KEPT = 1024
REFUSAL_KEPT_S = 3600.0
"""For how long an instance whose home could not be moved is booted: an attempt costs a sandbox."""
MAX_BYTES = 256 * 1024 * 1024
"""A larger home takes longer to copy than a boot takes."""


@dataclass(eq=False, repr=False, kw_only=True)
class Rehydration:
    """Brings an instance back in a warm sandbox, if one is ready or boots already."""

    matcher: WarmSandboxMatcher
    queries: WarmSandboxQueries
    warm_sandboxes: WarmSandboxes
    snapshots: Snapshots
    agents: Agents

    def __post_init__(self) -> None:
        self._refused: TTLCache[InstanceId, bool] = TTLCache(REFUSALS_KEPT, REFUSAL_KEPT_S)

    async def move(self, agent: Agent) -> str | None:
        """The gateway's address in the agent's new sandbox; None if it must be booted.

        The volume stays until the home is on the new one's disk and the row names the new sandbox,
        so nothing is lost at any moment.
        """
        instance = agent.row
        if instance.first_ready_at is None or instance.id in self._refused:
            return None
        return await self._move(agent, self._fill)

    async def take_another(self, agent: Agent) -> str | None:
        """As `move`, for one that has its home from its origin, as the sandbox has failed that it
        had claimed.
        """
        return await self._move(agent, self._fill_from_origin)

    async def _move(
        self, agent: Agent, fill: Callable[[WarmSandbox, Instance], Awaitable[str | None]]
    ) -> str | None:
        instance = agent.row
        fingerprint = await self.matcher.fingerprint_for(instance)
        async with AsyncExitStack() as stack:
            async with self.warm_sandboxes.reserve_booting() as booting:
                reserving = self.queries.reserve(instance, fingerprint, booting)
                warm = await stack.enter_async_context(reserving)
            if warm is None:
                return None
            url = await fill(warm, instance)
            is_moved = url is not None and await agent.move_sandbox(warm.sandbox_id)
            # After a cancellation the reconciler removes what no row names: a row may have been
            # written although its call was cancelled.
            await self.agents.discard(instance.sandbox_id if is_moved else warm.sandbox_id)
        if not is_moved:
            return None
        log.info("instance %s: moved to sandbox %s", instance.id, warm.sandbox_id)
        return url

    async def _fill(self, warm: WarmSandbox, instance: Instance) -> str | None:
        """The gateway's address in the warm sandbox, once it has the home; None if that fails."""
        engine = self.agents.engine
        try:
            former = await engine.inspect(instance.sandbox_id)
            if former.state is SandboxState.RUNNING:
                # The copy then has all files as they were at one moment, as after a power cut.
                await engine.pause(instance.sandbox_id)
            moved = replace(instance, sandbox_id=warm.sandbox_id)
            async with self._copying(instance) as copy:
                return await self.warm_sandboxes.turn_into(moved, warm, copy)
        except ChowderError as problem:
            if isinstance(problem, (ArchiveRefused, GatewayUnavailable)):
                self._refused[instance.id] = True
            log.info("instance %s: is booted, not moved: %s", instance.id, problem)
            return None

    async def _fill_from_origin(self, warm: WarmSandbox, instance: Instance) -> str | None:
        moved = replace(instance, sandbox_id=warm.sandbox_id)
        try:
            return await self.warm_sandboxes.turn_into(moved, warm)
        except ChowderError as problem:
            log.warning("instance %s: this sandbox failed, too: %s", instance.id, problem)
            return None

    @asynccontextmanager
    async def _copying(self, instance: Instance) -> AsyncIterator[HomeCopy]:
        """Copies everything but what belongs to the sandbox; the copy is gone after the block.

        A home that is too large, or has a link that another sandbox could not have, is refused:
        the copy then raises ArchiveRefused.
        """
        copy_id, begun = SnapshotId(str(uuid.uuid4())), asyncio.Event()
        archives, loop = self.snapshots.archives, asyncio.get_running_loop()
        fill = partial(
            archives.fill,
            copy_id,
            prefix=HOME_PREFIX,
            is_wanted=sanitize.is_moved,
            is_strict=True,
            max_bytes=MAX_BYTES,
            begun=partial(loop.call_soon_threadsafe, begun.set),
        )
        with self.snapshots.using(copy_id):
            copy = HomeCopy(archives, copy_id, begun, loop.create_future())
            try:
                async with owned_tasks() as group:
                    group.create_task(
                        copy.make(self.agents.engine.read_home(instance.sandbox_id, fill))
                    )
                    yield copy
            finally:
                await asyncio.to_thread(archives.remove, copy_id)


@dataclass(frozen=True)
class HomeCopy:
    """A copy that can be read while it is made. Its methods raise what the copying raises."""

    archives: Archives
    copy_id: SnapshotId
    begun: asyncio.Event
    made: asyncio.Future[sanitize.SanitizedHome]

    async def make(self, copying: Awaitable[sanitize.SanitizedHome]) -> None:
        """Makes the copy; it fails where the copy is read."""
        try:
            self.made.set_result(await copying)
        except ChowderError as problem:
            self.made.set_exception(problem)
            # Reading the exception keeps asyncio from reporting it if nobody waits any more.
            self.made.exception()
        finally:
            self.begun.set()

    async def chunks(self, _: Instance) -> Iterator[bytes]:
        """The archive, to be read in a thread."""
        await self.begun.wait()
        if self.made.done():
            self.made.result()
        return self.archives.chunks(self.copy_id)

    async def source(self, _: Instance) -> SnapshotSource:
        """The configuration, once the copy is whole."""
        home = await asyncio.shield(self.made)
        return SnapshotSource(
            self.archives.path(self.copy_id), agent_config.read_config(home.config)
        )
