"""Making the store and the engine agree: after a crash, a reboot, or somebody's `docker rm`."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from chowder_local.core import request_context
from chowder_local.core.domain import InstanceStatus, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.events import EventType
from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId, SandboxId
    from chowder_local.core.events import Events
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.drain import Drain
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.eviction import Eviction
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.spares import SpareQueries

log = logging.getLogger(__name__)

DEATHS_ALLOWED = 3
"""After so many it is booted again; the next one within the window is an error."""
DEATHS_WINDOW_S = 300.0
ROUNDS_TO_VOLUMES = 60
"""How seldom volumes are listed: there may be thousands, of stopped instances."""
CHECKS = 5
CHECK_INTERVAL_S = 0.1


class Reconciler:
    """Compares what should be (rows) with what is (sandboxes), and mends the difference."""

    def __init__(
        self,
        *,
        instances: InstanceQueries,
        engine: Engine,
        provisioner: Provisioner,
        locks: KeyedLocks,
        eviction: Eviction,
        spares: SpareQueries,
        drain: Drain,
        snapshots: Snapshots,
        egress: EgressRule,
        events: Events,
        interval_s: float,
        paused_ttl_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._instances = instances
        self._engine = engine
        self._provisioner = provisioner
        self._locks = locks
        self._eviction = eviction
        self._spares = spares
        self._drain = drain
        self._snapshots = snapshots
        self._egress = egress
        self._events = events
        self._interval_s = interval_s
        self._paused_ttl_s = paused_ttl_s
        self._rounds = 0
        self._clock = clock
        self._deaths: defaultdict[InstanceId, deque[datetime]] = defaultdict(
            lambda: deque(maxlen=DEATHS_ALLOWED)
        )
        self.engine_problem: str | None = None
        """Why the engine could not be asked the last time; None if it could."""

    async def run(self) -> None:
        """Agrees again and again, until cancelled."""
        with contained("reconciling"):
            await self._lift_all()
        while True:
            await asyncio.sleep(self._interval_s)
            with contained("reconciling"):
                await self.agree()

    async def agree(self) -> None:
        """One round over everything that is ours."""
        try:
            # The engine first: a row is written before its sandbox is made, so whatever is
            # seen here and has no row afterwards is nobody's.
            found = await self._engine.sandboxes()
            volumes = set() if self._rounds % ROUNDS_TO_VOLUMES else await self._engine.volumes()
        except EngineUnavailable as unavailable:
            self._note(str(unavailable))
            raise
        self._rounds += 1
        self._note(None)
        # Spares before instances: one that is claimed in between is then seen as both, not neither.
        spares = {spare.sandbox_id for spare in await self._spares.all()}
        owners = await self._instances.owners(found)
        owned = {each.sandbox_id for each in owners} | await self._instances.owned(volumes)
        rows = {each.id: each for each in [*owners, *await self._instances.awake()]}
        for instance in rows.values():
            sandbox = found.get(instance.sandbox_id)
            with request_context.for_instance(instance.id), _by_itself(instance.sandbox_id):
                # Whoever holds the lock moves it, maybe for minutes: the next round looks.
                if self._is_off(instance, sandbox) and not self._locks.is_held(instance.id):
                    await self._settle_one(instance)
                elif self._is_to_be_released(instance, sandbox):
                    await self._eviction.release(instance)
        with contained("clearing away snapshots"):
            await self._snapshots.settle()
        for sandbox_id in (found.keys() | volumes) - spares - owned:
            log.info("removing sandbox %s, which no instance has", sandbox_id)
            # Unless it is removed, the next round looks at the volumes again.
            rounds, self._rounds = self._rounds, 0
            with _by_itself(sandbox_id):
                await self._engine.remove(sandbox_id)
                self._rounds = rounds
                self._events.publish(EventType.SANDBOX_REMOVED, sandbox_id=sandbox_id)
        self._forget_old_deaths()

    async def check(self, instance: Instance) -> None:
        """Looks after one instance at once, because a message to it failed."""
        for _ in range(CHECKS):
            if await self._settle_one(instance):
                return
            # Its connections break a moment before the engine knows that a sandbox has ended.
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def renew(self, instance: Instance) -> None:
        """Boots a running one again on its volume, because it does not get over something."""
        async with self._locks.holding(instance.id):
            current = await self._instances.get(instance.id)
            if current is not None and not self._provisioner.is_under_way(instance.id):
                log.warning("instance %s: does not get over something, is booted anew", instance.id)
                await self._boot_anew(current)

    async def lift(self, instance: Instance) -> Instance:
        """The instance as it is once no stop is under way that keeps turns from it."""
        async with self._locks.holding(instance.id):
            current = await self._instances.get(instance.id) or instance
            if current.status is InstanceStatus.RUNNING:
                await self._drain.lift(current)
            return current

    async def _lift_all(self) -> None:
        """Ends what stops have left in which the server died."""
        awake = await self._instances.awake()
        running = [each for each in awake if each.status is InstanceStatus.RUNNING]
        await asyncio.gather(*(self._lifted(each) for each in running))

    async def _lifted(self, instance: Instance) -> None:
        with request_context.for_instance(instance.id), _by_itself(instance.sandbox_id):
            await self.lift(instance)

    async def _settle_one(self, seen: Instance) -> bool:
        """Whether there was something to mend, or somebody mends it."""
        if self._provisioner.is_under_way(seen.id):
            return True
        async with self._locks.holding(seen.id):
            instance = await self._instances.get(seen.id)
            if instance is None or self._provisioner.is_under_way(seen.id):
                return True
            sandbox = await self._engine.inspect(instance.sandbox_id)
            if not self._is_off(instance, sandbox):
                return False
            await self._settle(instance, sandbox)
            self._events.publish(
                EventType.SANDBOX_HEALED,
                instance.organization_id,
                instance.id,
                sandbox_id=instance.sandbox_id,
                status=instance.status,
                state=sandbox.state,
            )
            return True

    def _is_off(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        """Whether row and sandbox disagree in a way that is ours to mend."""
        state = SandboxState.MISSING if sandbox is None else sandbox.state
        if instance.status is InstanceStatus.PROVISIONING:
            return True
        if instance.status is InstanceStatus.RUNNING:
            moved = sandbox is not None and sandbox.gateway_url != instance.gateway_url
            return state is not SandboxState.RUNNING or moved or self._leaks(instance, sandbox)
        if instance.status is InstanceStatus.ERROR:
            return state is SandboxState.RUNNING and self._leaks(instance, sandbox)
        # A stopped one may well be gone: its volume is what counts, and `start` boots it.
        return instance.status is InstanceStatus.STOPPED and state is SandboxState.RUNNING

    def _leaks(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        """Whether it has another way out than it should, or none where it should have one."""
        return sandbox is not None and not self._egress.fits(instance, sandbox)

    def _is_to_be_released(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        if instance.status is not InstanceStatus.STOPPED or sandbox is None:
            return False
        stopped_s = (self._clock() - instance.updated_at).total_seconds()
        return sandbox.state is SandboxState.PAUSED and stopped_s >= self._paused_ttl_s

    async def _settle(self, instance: Instance, sandbox: SandboxInfo) -> None:
        log.info("instance %s is %s, its sandbox %s", instance.id, instance.status, sandbox.state)
        if instance.status is InstanceStatus.PROVISIONING:
            self._provisioner.begin(instance)
        elif instance.status is InstanceStatus.STOPPED:
            await self._engine.pause(instance.sandbox_id)
        elif instance.status is InstanceStatus.ERROR:
            # Nobody asks it for anything any more, so it is not worth a boot.
            await self._engine.release(instance.sandbox_id)
        elif not self._egress.fits(instance, sandbox):
            await self._boot_anew(instance)
        elif sandbox.state is SandboxState.PAUSED:
            await self._engine.unpause(instance.sandbox_id)
        elif sandbox.state is SandboxState.RUNNING and sandbox.gateway_url is not None:
            await self._instances.change(
                instance.id, now=self._clock(), gateway_url=sandbox.gateway_url
            )
        else:
            await self._revive(instance, sandbox)

    async def _revive(self, instance: Instance, sandbox: SandboxInfo) -> None:
        died = "ran out of memory" if sandbox.is_oom_killed else f"is {sandbox.state}"
        # Of itself, no sandbox vanishes, leaves its network or gets a signal by the engine: those
        # are no signs of a bad one.
        has_died = sandbox.state in {SandboxState.EXITED, SandboxState.CREATED}
        has_died = has_died and (sandbox.is_oom_killed or not sandbox.is_signalled)
        if has_died and self._dies_too_often(instance):
            await self._instances.change(
                instance.id,
                only_from={InstanceStatus.RUNNING},
                now=self._clock(),
                status=InstanceStatus.ERROR,
                error_message=(
                    f"The sandbox {died} and has died {DEATHS_ALLOWED + 1} times within "
                    f"{DEATHS_WINDOW_S:g} s. Its files are kept; see its log with: "
                    f"chowder-local logs {instance.id}"
                ),
            )
            return
        await self._boot_anew(instance)

    async def _boot_anew(self, instance: Instance) -> None:
        revived = await self._instances.change(
            instance.id,
            only_from={InstanceStatus.RUNNING},
            now=self._clock(),
            status=InstanceStatus.PROVISIONING,
            gateway_url=None,
        )
        if revived is not None:
            self._provisioner.begin(revived)

    def _forget_old_deaths(self) -> None:
        """Also of instances that were deleted since, which nobody tells us."""
        now = self._clock()
        for instance_id, deaths in list(self._deaths.items()):
            if (now - deaths[-1]).total_seconds() >= DEATHS_WINDOW_S:
                del self._deaths[instance_id]

    def _dies_too_often(self, instance: Instance) -> bool:
        deaths, now = self._deaths[instance.id], self._clock()
        is_too_often = (
            len(deaths) == DEATHS_ALLOWED and (now - deaths[0]).total_seconds() < DEATHS_WINDOW_S
        )
        deaths.append(now)
        return is_too_often

    def _note(self, problem: str | None) -> None:
        if problem != self.engine_problem:
            log.warning("engine: %s", problem or "answers again")
            is_new = (problem is None) is not (self.engine_problem is None)
            if is_new:
                lost, back = EventType.ENGINE_LOST, EventType.ENGINE_BACK
                self._events.publish(back if problem is None else lost)
            if problem is None:
                # Agents that went down with it have not died, and what was not removed then is now.
                self._deaths.clear()
                self._rounds = 0
        self.engine_problem = problem


def _by_itself(sandbox_id: SandboxId) -> AbstractContextManager[None]:
    """Lets one sandbox that cannot be dealt with stand in no other's way."""
    return contained(f"sandbox {sandbox_id}: reconciling")
