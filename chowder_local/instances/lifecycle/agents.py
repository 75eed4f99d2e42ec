"""Agents: an instance's row, its lock and its sandbox as one object, which cannot go stale."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Unpack

from chowder_local.core import logs
from chowder_local.core.domain import Egress, InstanceStatus, SandboxId, SandboxSpec, SandboxState
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import (
    BootFailed,
    BootStarved,
    DiskFull,
    EgressUnavailable,
    EngineUnavailable,
    HostFull,
    ImageMissing,
    SandboxMissing,
)
from chowder_local.core.events import EventType
from chowder_local.core.tasks import KeyedLocks, logging_errors, watched
from chowder_local.openclaw.clock import CLOCK_FILE, record_of
from chowder_local.openclaw.config import agent_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Set
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId, SandboxInfo, WarmSandbox
    from chowder_local.core.events import Events
    from chowder_local.instances.configuration.initial_config import InitialConfigs, SnapshotSource
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.boots import BootQueue, Readiness
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.store.instances import InstanceChanges, InstanceQueries, RowChanges

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 10.0
DRAIN_POLL_S = 0.1
PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus

MOVES: Mapping[InstanceStatus, Set[InstanceStatus]] = {
    # It changes to itself when the sandbox is replaced during a boot.
    PROVISIONING: {PROVISIONING, RUNNING, ERROR, TERMINATED},
    RUNNING: {PROVISIONING, STOPPED, ERROR, TERMINATED},
    STOPPED: {PROVISIONING, RUNNING, ERROR, TERMINATED},
    # A restore from a snapshot provisions it again.
    ERROR: {PROVISIONING, TERMINATED},
    TERMINATED: set(),
}
"""The statuses that each status can change to; drawn in `docs/explanation/instance-states.md`."""


@dataclass(frozen=True)
class EgressRule:
    """The server's default, and why the engine cannot isolate sandboxes, if it cannot."""

    default: Egress = Egress.ON
    problem: str | None = None

    def effective(self, instance: Instance) -> Egress:
        """The instance's own setting, or else the server's default."""
        return instance.egress or self.default

    def fits(self, instance: Instance, sandbox: SandboxInfo) -> bool:
        """Whether the sandbox has the network that this rule gives it, or does not exist."""
        if sandbox.state is SandboxState.MISSING:
            return True
        return sandbox.is_confined and sandbox.egress is self.effective(instance)

    def check(self, egress: Egress) -> None:
        """Raises EgressUnavailable if egress is to be off and the engine cannot isolate."""
        if egress is Egress.OFF and self.problem is not None:
            raise EgressUnavailable(self.problem)


@dataclass(eq=False, repr=False, kw_only=True)
class Agents:
    """All agents. Code that moves one, or needs it to stay as it is, holds it by `holding`.

    Only a boot in the background moves one without: its end compares and sets the status.
    """

    instances: InstanceQueries
    engine: Engine
    gateway_of: GatewayOf
    initial_configs: InitialConfigs
    readiness: Readiness
    boot_queue: BootQueue
    egress: EgressRule
    events: Events
    drain_timeout_s: float
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self.locks = KeyedLocks()
        self.drains: dict[SandboxId, str] = {}
        """The ids of the drains that this server has begun."""

    def connect(
        self,
        *,
        reserve_memory: Callable[[SandboxId], AbstractAsyncContextManager[None]],
        source_of: Callable[[Instance], Awaitable[SnapshotSource | None]],
        move_home: Callable[[Agent], Awaitable[str | None]],
        take_another: Callable[[Agent], Awaitable[str | None]],
    ) -> None:
        """Sets what a boot needs of others that themselves hold agents.

        These are `Capacity.reserve`, `Snapshots.source`, and `Rehydration.move` and `take_another`.
        """
        self.reserve_memory = reserve_memory
        self.source_of = source_of
        self.move_home = move_home
        self.take_another = take_another

    @asynccontextmanager
    async def holding(self, stale: Instance, *wanted: InstanceStatus) -> AsyncIterator[Agent]:
        """The agent as it is now; no other task holds it during the block.

        Raises InstanceNotFound if it is gone, InstanceStateWrong if its status is not `wanted`.
        """
        async with self.locks.holding(stale.id):
            agent = Agent(self, stale)
            row = await agent.read()
            if wanted and row.status not in wanted:
                raise InstanceStateWrong(row.status, " or ".join(wanted), row.error_message)
            yield agent

    def is_held(self, instance_id: InstanceId) -> bool:
        """Whether a task holds it, and perhaps is about to move it."""
        return self.locks.is_held(instance_id)

    async def evict(self, stale: Instance) -> bool:
        """Frees a stopped instance's memory; False if it is in use, not stopped or not in memory.

        Its sandbox is shut down cleanly, and a start boots it again. Raises EngineUnavailable.
        """
        # The lock's holder is about to move the instance, and may itself wait for an eviction.
        if self.is_held(stale.id):
            return False
        async with self.holding(stale) as agent:
            if agent.row.status is not STOPPED:
                return False
            if (await agent.inspect()).state is not SandboxState.PAUSED:
                return False
            await agent.release()
            agent.publish(EventType.SANDBOX_RELEASED)
            log.info("instance %s: evicted from memory", stale.id)
            return True

    async def end_leftover_drains(self) -> None:
        """Ends the drains of stops that the end of an earlier server process interrupted."""
        rows = await self.instances.running_or_provisioning()
        await asyncio.gather(*(self._end_leftover_drain(each) for each in rows))

    async def _end_leftover_drain(self, stale: Instance) -> None:
        if not stale.is_in_memory:
            return
        with (
            logs.for_instance(stale.id),
            logging_errors(f"sandbox {stale.sandbox_id}: resuming"),
        ):
            async with self.holding(stale) as agent:
                if agent.row.is_in_memory:
                    await agent.end_leftover_drain()
                    # The row is set first, and the end of that process may have come in between.
                    await agent.set_clock(agent.row.gateway_url)

    async def discard(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox that belongs to no instance; if that fails, the reconciler does."""
        try:
            await self.remove(sandbox_id)
        except ChowderError as problem:
            log.warning("sandbox %s: removal postponed: %s", sandbox_id, problem)

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox. Raises EngineUnavailable."""
        self.drains.pop(sandbox_id, None)
        await self.engine.remove(sandbox_id)


@dataclass(eq=False, repr=False)
class Agent:
    """An instance with its sandbox. `row` is as the store has it: each move reads it again.

    A move compares and sets the status that was seen: it returns False, and changes nothing, if
    another task has changed it. The store publishes the event.
    """

    agents: Agents
    row: Instance

    @property
    def gateway(self) -> Gateway:
        return self.agents.gateway_of(self.row.sandbox_id, self.row.gateway_url)

    async def read(self) -> Instance:
        """Reads the row again: a boot may have ended. Raises InstanceNotFound if it is gone."""
        row = await self.agents.instances.get(self.row.id)
        if row is None:
            raise InstanceNotFound
        self.row = row
        return row

    async def inspect(self) -> SandboxInfo:
        """Its sandbox as it is now."""
        return await self.agents.engine.inspect(self.row.sandbox_id)

    def publish(self, event: EventType) -> None:
        """Publishes an event about its sandbox."""
        self.agents.events.publish(
            event, self.row.organization_id, self.row.id, sandbox_id=self.row.sandbox_id
        )

    # Moves of the row

    async def to_running(self, gateway_url: str) -> bool:
        """The gateway accepts turns at this address."""
        first_ready_at = self.row.first_ready_at or self.agents.clock()
        changes: InstanceChanges = {
            "gateway_url": gateway_url,
            "first_ready_at": first_ready_at,
            "error_message": None,
        }
        return await self._move(RUNNING, changes)

    async def to_stopped(self) -> bool:
        """The sandbox is frozen, or only its volume is left."""
        return await self._move(STOPPED, {})

    async def to_provisioning(self, **fields: Unpack[InstanceChanges]) -> bool:
        """The sandbox is about to be created again on its volume."""
        if is_moved := await self._move(PROVISIONING, {**fields, "gateway_url": None}):
            self.agents.drains.pop(self.row.sandbox_id, None)
        return is_moved

    async def to_error(self, reason: str, **fields: Unpack[InstanceChanges]) -> bool:
        """The instance has failed. It is not booted again automatically; its files are kept."""
        return await self._move(ERROR, {**fields, "error_message": reason})

    async def to_terminated(self) -> bool:
        """Deletes the instance from any status; False if there is no such instance."""
        if is_changed := await self.update(status=TERMINATED, gateway_url=None):
            log.info("instance %s: %s", self.row.id, TERMINATED)
        return is_changed

    async def replace_sandbox(
        self,
        sandbox_id: SandboxId,
        fingerprint: str | None,
        booting: Collection[SandboxId],
        **fields: Unpack[InstanceChanges],
    ) -> WarmSandbox | None:
        """Back to `provisioning`, with a warm sandbox if one fits, or else with `sandbox_id`.

        Returns the claimed one. Raises InstanceStateWrong if another task has moved the instance.
        """
        self._check_move(PROVISIONING)
        replaced = await self.agents.instances.replace_sandbox(
            self.row,
            sandbox_id,
            fingerprint=fingerprint,
            booting=booting,
            now=self.agents.clock(),
            **fields,
        )
        if replaced is None:
            await self.raise_moved()
        self.row, claimed = replaced
        log.info("instance %s: %s", self.row.id, PROVISIONING)
        return claimed

    async def move_sandbox(self, sandbox_id: SandboxId) -> bool:
        """Its home is in another sandbox now, and nothing owns the former one. Keeps its status."""
        return await self._change({self.row.status}, sandbox_id=sandbox_id)

    async def hibernate(self) -> bool:
        """It goes on running, but its sandbox is about to leave memory."""
        return await self._change({RUNNING}, gateway_url=None)

    async def mark_resumed(self, gateway_url: str) -> bool:
        """As `to_running`, for one that has been `running` all the time."""
        return await self._change({RUNNING}, gateway_url=gateway_url)

    async def postpone(self, reason: str) -> bool:
        """Keeps it `provisioning`, with the reason as its error; the reconciler tries again."""
        return await self._change({PROVISIONING}, error_message=reason)

    async def update(self, **fields: Unpack[InstanceChanges]) -> bool:
        """Changes fields of an instance; False if there is no such instance."""
        return await self._change(None, **fields)

    async def raise_moved(self) -> NoReturn:
        """Raises InstanceStateWrong, because another task has moved the instance meanwhile."""
        expected = self.row.status
        current = await self.read()
        raise InstanceStateWrong(current.status, expected, current.error_message)

    async def _move(self, target: InstanceStatus, fields: InstanceChanges) -> bool:
        self._check_move(target)
        changes: InstanceChanges = {**fields, "status": target}
        if is_moved := await self._change({self.row.status}, **changes):
            log.info("instance %s: %s", self.row.id, target)
        return is_moved

    def _check_move(self, target: InstanceStatus) -> None:
        if target not in MOVES[self.row.status]:
            raise ValueError(f"An instance cannot move from {self.row.status} to {target}.")

    async def _change(
        self, only_from: Collection[InstanceStatus] | None, **fields: Unpack[RowChanges]
    ) -> bool:
        changed = await self.agents.instances.change(
            self.row.id, only_from=only_from, now=self.agents.clock(), **fields
        )
        self.row = changed or self.row
        return changed is not None

    # Drains: the running turn ends, and no other begins until the agent is resumed

    async def drain(self) -> None:
        """Blocks new turns and waits for the running one to end, up to the timeout.

        OpenClaw ends a drain by itself after two minutes.
        """
        sandbox_id = self.row.sandbox_id
        try:
            gateway = self.gateway
            async with asyncio.timeout(self.agents.drain_timeout_s):
                suspension = await gateway.suspend(sandbox_id)
                self.agents.drains[sandbox_id] = suspension.id
                while not suspension.is_drained:
                    await asyncio.sleep(DRAIN_POLL_S)
                    suspension = await gateway.suspension(suspension.id)
        except (TimeoutError, GatewayUnavailable, RpcRefused) as reason:
            # An agent that is frozen during a turn continues it when it is started again.
            log.info("instance %s: stopped without draining: %r", self.row.id, reason)

    async def end_drain(self, gateway_url: str | None) -> None:
        """Lets the agent accept turns again. Raises GatewayUnavailable, RpcRefused."""
        gateway = self.agents.gateway_of(self.row.sandbox_id, gateway_url)
        begun = self.agents.drains.pop(self.row.sandbox_id, None)
        if begun is None:
            # OpenClaw allows thirty suspensions a minute, so none is spent without need.
            if await gateway.is_started():
                return
            # An earlier server process may have begun one: suspending again returns its id.
            begun = (await gateway.suspend(self.row.sandbox_id)).id
        await gateway.resume(begun)

    async def end_leftover_drain(self) -> None:
        """Ends a drain that a failed or interrupted stop has left. Logs failures."""
        try:
            if not await self.gateway.is_started():
                await self.end_drain(self.row.gateway_url)
        except (GatewayUnavailable, RpcRefused) as reason:
            # Messages that the agent refuses for that are logged as warnings themselves.
            log.info("instance %s: still drained: %s", self.row.id, reason)

    async def set_clock(self, gateway_url: str | None) -> None:
        """Sets the running sandbox's clock as the row has it. Raises GatewayUnavailable."""
        if self.row.clock is not None:
            gateway = self.agents.gateway_of(self.row.sandbox_id, gateway_url)
            await gateway.set_clock(self.row.clock)

    # Leaving memory

    async def freeze(self) -> None:
        """Freezes the sandbox after a drain. Does nothing to one that has died.

        Raises ChowderError if the engine fails; the sandbox accepts turns again then.
        """
        await self.drain()
        try:
            if (await self.inspect()).state is SandboxState.RUNNING:
                await self.agents.engine.pause(self.row.sandbox_id)
        except ChowderError:
            await self.end_leftover_drain()
            raise

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Keeps a running agent frozen during the block, after a drain.

        All its files are then of one moment, as after a power cut, which SQLite survives.
        """
        if not self.row.is_in_memory:
            yield
            return
        # This fails on a machine that is away, where nobody could end a drain for minutes.
        if (await self.inspect()).state is SandboxState.PAUSED:
            # The agent's machine was cut off, which freezes the agent. A frozen agent takes no
            # drain, and the reconciler, which resumes it, waits for this lock.
            await self.agents.engine.unpause(self.row.sandbox_id)
        await self.drain()
        try:
            is_frozen = await self._pause()
            try:
                yield
            finally:
                if is_frozen:
                    await self.agents.engine.unpause(self.row.sandbox_id)
        finally:
            try:
                await self.end_drain(self.row.gateway_url)
            except (GatewayUnavailable, RpcRefused) as reason:
                # The next message ends the drain.
                log.warning("instance %s: still drained: %s", self.row.id, reason)

    async def _pause(self) -> bool:
        """False if the sandbox has died; the reconciler boots it again."""
        try:
            await self.agents.engine.pause(self.row.sandbox_id)
        except ChowderError:
            if (await self.inspect()).state is SandboxState.RUNNING:
                raise
            return False
        return True

    async def release(self) -> None:
        """Shuts down the sandbox cleanly; its state stays on its volume."""
        await self.agents.engine.release(self.row.sandbox_id)

    # Coming back

    async def bring_back(self) -> None:
        """Brings a hibernated agent back to memory; does nothing to others.

        Raises what `resume_or_fail` raises, and InstanceStateWrong if it was moved meanwhile.
        """
        if not self.row.is_hibernated:
            return
        if not await self.mark_resumed(await self.resume_or_fail()):
            await self.raise_moved()
        log.info("instance %s: resumed from hibernation", self.row.id)

    async def resume_or_fail(self) -> str:
        """As `resume`. If the agent cannot run again, the instance becomes an `error`."""
        try:
            return await self.resume()
        except (EngineUnavailable, HostFull, ImageMissing, DiskFull):
            # The agent stays stopped: a later attempt may succeed.
            raise
        except ChowderError as failure:
            await self.to_error(str(failure))
            raise

    async def resume(self) -> str:
        """The gateway's address once it accepts turns, perhaps in another sandbox.

        The row has the sandbox then, but not the address. Raises ChowderError, and EngineSilent as
        soon as the engine is away.
        """
        async with watched(self.agents.engine.version):
            sandbox = await self.inspect()
            # A container's networks are set when it is created: others need another container.
            if self.agents.egress.fits(self.row, sandbox):
                if sandbox.state is SandboxState.PAUSED:
                    await self.agents.engine.unpause(self.row.sandbox_id)
                    self.publish(EventType.SANDBOX_RESUMED)
                    sandbox = await self.inspect()
                if sandbox.state is SandboxState.RUNNING:
                    try:
                        await self.set_clock(sandbox.gateway_url)
                        await self.end_drain(sandbox.gateway_url)
                        return await self.agents.readiness.wait(sandbox)
                    except (GatewayUnavailable, RpcRefused, BootFailed) as reason:
                        log.warning(
                            "instance %s: resuming failed, is booted again: %s",
                            self.row.id, reason,
                        )  # fmt: skip
            # It was released or died, or the host or the engine was restarted.
            return await self.agents.move_home(self) or await self.boot()

    async def boot(self, files: Mapping[str, bytes] | None = None) -> str:
        """Creates the sandbox and returns the gateway's address once it is ready.

        Waits for memory and for its turn in the queue. An instance that was ready before keeps its
        volume; leftovers of one that never was are removed first. `files` are written to the
        volume. A sandbox that does not become ready is ended, and one whose start was starved is
        booted once more. Raises ChowderError.
        """
        instance, agents = self.row, self.agents
        sandbox_id = instance.sandbox_id
        # This waits for a copy that is in progress, so it comes before the place in the queue.
        source = await agents.source_of(instance)
        async with agents.reserve_memory(sandbox_id), agents.boot_queue.turn(instance):
            content = dict(files or {})
            if instance.clock is not None:
                content[CLOCK_FILE] = record_of(instance.clock)
            if instance.first_ready_at is None:
                config = await agents.initial_configs.first(instance, source)
                content[agent_config.CONFIG_FILE] = config
            elif sandbox_id not in await agents.engine.volumes():
                raise SandboxMissing(
                    f"The volume {sandbox_id} with the agent's files and memory is gone "
                    "from the engine. Restore a snapshot of the instance, or delete it."
                )
            spec = SandboxSpec(
                sandbox_id,
                content,
                egress=agents.egress.effective(instance),
                home=None if source is None else source.archive,
                openclaw_version=instance.openclaw_version,
            )
            try:
                return await self._boot_once(spec)
            except BootStarved as starved:
                log.warning("instance %s: is booted once more: %s", instance.id, starved)
                return await self._boot_once(spec)

    async def _boot_once(self, spec: SandboxSpec) -> str:
        engine = self.agents.engine
        if self.row.first_ready_at is None:
            await engine.remove(spec.id)
        sandbox = await engine.boot(spec)
        try:
            return await self.agents.readiness.wait(sandbox)
        except BootFailed:
            # A sandbox that becomes ready later would answer its channels' messages and call
            # models, and it holds memory. The volume stays.
            with logging_errors(f"sandbox {spec.id}: ending it after a failed boot"):
                await engine.release(spec.id)
            raise

    async def check_boot(self) -> None:
        """Raises the errors that a first boot would have before it is queued."""
        source = await self.agents.source_of(self.row)
        await self.agents.initial_configs.first(self.row, source)

    async def fail_boot(self, reason: str) -> None:
        """Queues a boot that fails, for an injected fault. Raises BootFailed."""
        async with self.agents.boot_queue.turn(self.row):
            raise BootFailed(reason)


def new_sandbox_id() -> SandboxId:
    """A new random id, which names the container and its volume."""
    return SandboxId(f"chowder-{secrets.token_hex(6)}")
