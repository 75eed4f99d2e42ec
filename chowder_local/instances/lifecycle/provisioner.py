"""Bringing sandboxes up, a few at a time, in the background where nobody waits for them."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core import request_context
from chowder_local.core.domain import InstanceStatus, SandboxSpec
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import ModelKeyMissing
from chowder_local.core.errors.sandboxes import (
    BootFailed,
    DiskFull,
    EngineUnavailable,
    HostFull,
    ImageMissing,
    OriginMissing,
    SandboxMissing,
)
from chowder_local.core.events import EventType
from chowder_local.core.fault_injection import Call, FaultKind
from chowder_local.core.tasks import contained
from chowder_local.openclaw.config import agent_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance, InstanceId, OrganizationId, Spare
    from chowder_local.core.events import Events
    from chowder_local.core.fault_injection import FaultDraft, Faults
    from chowder_local.core.metrics import Metrics
    from chowder_local.instances.configuration.initial_config import InitialConfigs, Origin
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.capacity import Capacity
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.readiness import Readiness
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.warm_pool.sandboxes import Spares
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

FULL_PAUSE_S = 30.0
"""Between attempts to boot on a full disk, each of which costs as much as a boot that succeeds."""


class Provisioner:
    """Takes instances from `provisioning` to `running` or `error`."""

    def __init__(
        self,
        *,
        instances: InstanceQueries,
        organizations: Organizations,
        engine: Engine,
        readiness: Readiness,
        initial_configs: InitialConfigs,
        spares: Spares,
        capacity: Capacity,
        snapshots: Snapshots,
        concurrency: int,
        egress: EgressRule,
        events: Events,
        faults: Faults,
        metrics: Metrics,
        clock: Callable[[], datetime],
        group: asyncio.TaskGroup,
    ) -> None:
        self._instances = instances
        self._organizations = organizations
        self._engine = engine
        self._readiness = readiness
        self._initial_configs = initial_configs
        self._spares = spares
        self._capacity = capacity
        self._snapshots = snapshots
        self._egress = egress
        # A boot is bound by the processor: more at once would only make all of them late.
        self._slots = asyncio.Semaphore(concurrency)
        self._events = events
        self._faults = faults
        self._metrics = metrics
        self._clock = clock
        self._group = group
        self._under_way: dict[InstanceId, asyncio.Task[None]] = {}
        self._queue: dict[InstanceId, None] = {}
        self._not_before_s: dict[InstanceId, float] = {}

    def begin(self, instance: Instance, spare: Spare | None = None) -> None:
        """Boots an instance that is `provisioning`, unless that is under way.

        With a spare that it has claimed, it need not be booted, only woken.
        """
        is_resting = time.monotonic() < self._not_before_s.get(instance.id, 0.0)
        if instance.id in self._under_way or is_resting:
            return
        self._not_before_s.pop(instance.id, None)
        fault = None
        if self._faults.are_set and instance.born_at is None:
            call = Call({FaultKind.PROVISIONING}, instance_id=instance.id)
            fault = self._faults.take(instance.organization_id, call)
        work = self._outlived(instance, spare, fault)
        task = self._group.create_task(work, name=f"boot {instance.id}")
        self._under_way[instance.id] = task
        task.add_done_callback(lambda _: self._under_way.pop(instance.id, None))

    def is_to_fail(self, organization_id: OrganizationId) -> bool:
        """Whether the organization's next new instance comes to nothing, as a tester wants it."""
        fault = self._faults.find(organization_id, Call({FaultKind.PROVISIONING}))
        return fault is not None and fault.draft.detail is not None

    def is_under_way(self, instance_id: InstanceId) -> bool:
        """Whether a boot that was begun has not ended."""
        return instance_id in self._under_way

    @property
    def under_way_count(self) -> int:
        """How many instances are on their way to `running`, those that wait for it included."""
        return len(self._under_way)

    @property
    def queue_length(self) -> int:
        """How many of them wait for their boot to begin."""
        return len(self._queue)

    def position(self, instance_id: InstanceId) -> int | None:
        """Its place among those that wait for their boot to begin, from 1; None if it does not."""
        return next((n for n, each in enumerate(self._queue, 1) if each == instance_id), None)

    async def abandon(self, instance_id: InstanceId) -> None:
        """Ends a boot that is under way; when this returns, it does nothing more."""
        if (task := self._under_way.get(instance_id)) is not None:
            task.cancel()
            await asyncio.wait([task])
        self._not_before_s.pop(instance_id, None)

    async def boot(self, instance: Instance, files: Mapping[str, bytes] | None = None) -> str:
        """Makes the instance's sandbox anew and gives its gateway's address when it is ready.

        An instance that was ready before keeps its volume; leftovers of one that never was
        are swept away first. `files` are put on the volume. Raises ChowderError.
        """
        # It may still be copied: whoever waits for that is in nobody's way.
        origin = await self._snapshots.origin(instance)
        async with self._capacity.kept_for(instance.sandbox_id), self._turn(instance):
            content = dict(files or {})
            if instance.born_at is None:
                content[agent_config.CONFIG_FILE] = await self._first_config(instance, origin)
                await self._engine.remove(instance.sandbox_id)
            elif instance.sandbox_id not in await self._engine.volumes():
                raise SandboxMissing(
                    f"The volume {instance.sandbox_id} with the agent's files and memory is gone "
                    "from the engine. Delete the instance and create a new one."
                )
            spec = SandboxSpec(
                instance.sandbox_id,
                content,
                egress=self._egress.of(instance),
                home=None if origin is None else origin.archive,
            )
            return await self._readiness.wait(await self._engine.boot(spec))

    @asynccontextmanager
    async def _turn(self, instance: Instance) -> AsyncIterator[None]:
        tell = partial(
            self._events.publish, organization_id=instance.organization_id, instance_id=instance.id
        )
        tell(EventType.BOOT_QUEUED)
        self._queue[instance.id] = None
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            tell(EventType.BOOT_ENDED, outcome="abandoned", took_s=0.0)
            raise
        finally:
            self._queue.pop(instance.id, None)
        tell(EventType.BOOT_BEGUN)
        began_s, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "ready"
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            self._slots.release()
            took_s = time.monotonic() - began_s
            self._metrics.boot(outcome, took_s)
            tell(EventType.BOOT_ENDED, outcome=outcome, took_s=round(took_s, 3))

    async def _first_config(self, instance: Instance, origin: Origin | None) -> bytes:
        provider = instance.model_provider
        if await self._organizations.model_key(instance.organization_id, provider) is None:
            raise ModelKeyMissing(provider)
        if origin is not None:
            return self._initial_configs.like(origin, instance)
        return self._initial_configs.of(instance.sandbox_id, provider, instance.openclaw_config)

    async def _made(self, instance: Instance, spare: Spare | None) -> str:
        """The address of its gateway, once it is all that it is to be. Raises ChowderError."""
        gateway_url = None if spare is None else await self._woken(instance, spare)
        if gateway_url is None:
            gateway_url = await self.boot(instance)
        await self._snapshots.name_sessions(instance)
        return gateway_url

    async def _woken(self, instance: Instance, spare: Spare) -> str | None:
        try:
            return await self._spares.wake(instance, spare)
        except ChowderError as failure:
            # Nobody was promised that it is a warm one.
            log.warning("instance %s: its spare is no good: %s", instance.id, failure)
            return None

    async def _befall(self, instance: Instance, fault: FaultDraft) -> None:
        """Raises BootFailed, if that is what was asked for; but first what is wrong anyway."""
        await self._first_config(instance, await self._snapshots.origin(instance))
        # Without a turn: the boots of others do not wait for it.
        await asyncio.sleep(fault.delay_s)
        if fault.detail is not None:
            async with self._turn(instance):
                raise BootFailed(fault.detail)

    async def _outlived(
        self, instance: Instance, spare: Spare | None, fault: FaultDraft | None
    ) -> None:
        # If what has come of it cannot even be written, the reconciler begins again.
        with contained(f"instance {instance.id}: its boot"):
            try:
                await self._provision(instance, spare, fault)
            finally:
                if spare is not None:
                    await self._spares.forget(spare.sandbox_id)

    async def _provision(
        self, instance: Instance, spare: Spare | None, fault: FaultDraft | None
    ) -> None:
        request_context.of_instance(instance.id)
        log.info("instance %s: booting sandbox %s", instance.id, instance.sandbox_id)
        try:
            if fault is not None:
                await self._befall(instance, fault)
            gateway_url = await self._made(instance, spare)
        except (EngineUnavailable, HostFull, ImageMissing) as unavailable:
            log.warning("instance %s: boot put off: %s", instance.id, unavailable)
            await self._put_off(instance, str(unavailable))
        except OriginMissing as missing:
            log.info("instance %s: withdrawn: %s", instance.id, missing)
            await self._withdraw(instance)
        except DiskFull as full:
            log.warning("instance %s: boot put off: %s", instance.id, full)
            self._not_before_s[instance.id] = time.monotonic() + FULL_PAUSE_S
            await self._put_off(instance, str(full))
        except ChowderError as failure:
            log.warning("instance %s: boot failed: %s", instance.id, failure)
            await self._fail(instance, str(failure))
        except Exception:
            # A defect of ours must not take the server's other work down with it.
            log.exception("instance %s: boot failed unexpectedly", instance.id)
            await self._fail(instance, "An internal error; the server's log has the details.")
        else:
            now = self._clock()
            await self._instances.change(
                instance.id,
                only_from={InstanceStatus.PROVISIONING},
                now=now,
                status=InstanceStatus.RUNNING,
                gateway_url=gateway_url,
                born_at=instance.born_at or now,
                error_message=None,
            )
            log.info("instance %s: running", instance.id)

    async def _withdraw(self, instance: Instance) -> None:
        """Takes back one whose copy has not been finished: only then is it told of."""
        await self._instances.change(
            instance.id,
            only_from={InstanceStatus.PROVISIONING},
            now=self._clock(),
            status=InstanceStatus.TERMINATED,
            gateway_url=None,
        )
        try:
            await self._engine.remove(instance.sandbox_id)
        except ChowderError as problem:
            # Nobody's any more: the reconciler removes it.
            log.warning("sandbox %s: removal put off: %s", instance.sandbox_id, problem)

    async def _put_off(self, instance: Instance, words: str) -> None:
        if instance.born_at is None:
            # Nobody was promised anything yet; whoever asked for it may ask again.
            await self._fail(instance, words)
            return
        # Its files are there, so the reconciler tries again until the engine has what it needs.
        await self._instances.change(
            instance.id,
            only_from={InstanceStatus.PROVISIONING},
            now=self._clock(),
            error_message=words,
        )

    async def _fail(self, instance: Instance, words: str) -> None:
        await self._instances.change(
            instance.id,
            only_from={InstanceStatus.PROVISIONING},
            now=self._clock(),
            status=InstanceStatus.ERROR,
            error_message=words,
        )
