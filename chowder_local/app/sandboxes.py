"""The parts of a server that boot, freeze, copy and remove sandboxes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import psutil

from chowder_local.app.model_calls import ModelCalls
from chowder_local.core.keyed_lock import KeyedLocks
from chowder_local.instances.configuration.initial_config import InitialConfigs
from chowder_local.instances.directory import InstanceDirectory
from chowder_local.instances.image_shortcuts import ImageShortcuts
from chowder_local.instances.lifecycle.boot_queue import BootQueue
from chowder_local.instances.lifecycle.capacity import Capacity
from chowder_local.instances.lifecycle.drain import Drain
from chowder_local.instances.lifecycle.eviction import Eviction
from chowder_local.instances.lifecycle.hibernation import Hibernation
from chowder_local.instances.lifecycle.instance_uses import InstanceUses
from chowder_local.instances.lifecycle.provisioner import Provisioner
from chowder_local.instances.lifecycle.readiness import Readiness
from chowder_local.instances.lifecycle.sandbox_boot import SandboxBoot
from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
from chowder_local.instances.snapshots.archives import Archives
from chowder_local.instances.snapshots.conversation_records import ConversationRecords
from chowder_local.instances.snapshots.home_copies import HomeCopies
from chowder_local.instances.snapshots.service import Snapshots
from chowder_local.instances.transitions import Transitions
from chowder_local.instances.versions import OpenclawVersions
from chowder_local.instances.warm_pool.allocation import Allocation
from chowder_local.instances.warm_pool.demand import Demand
from chowder_local.instances.warm_pool.fit import Fit
from chowder_local.instances.warm_pool.hydration import Hydration
from chowder_local.instances.warm_pool.pool import WarmPool
from chowder_local.instances.warm_pool.rehydration import Rehydration
from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes
from chowder_local.openclaw.control import Control
from chowder_local.openclaw.files import Files
from chowder_local.openclaw.gateway import Gateway, take_refused_sizes
from chowder_local.openclaw.warmup import WarmUp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chowder_local.core.domain import SandboxId
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.monitoring.health import ServerFacts
    from chowder_local.openclaw.home.state_transfer import StateTransfers
    from chowder_local.openclaw.sandbox_exec import Processes
    from chowder_local.upstream.forward import Forwarder


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


@dataclass(frozen=True, kw_only=True)
class Sandboxes(ModelCalls):
    """`exec` runs programs in a running sandbox, `exec_beside` on the volume of any sandbox.

    `state_dir` is where OpenClaw keeps an agent's files and databases.
    """

    engine: Engine
    exec: Processes
    exec_beside: Processes
    exec_files: Processes
    home: str
    state_dir: str
    gateways: Forwarder
    state_transfers: StateTransfers
    egress_rule: EgressRule
    relay_url: str
    server_facts: ServerFacts
    is_idle: Callable[[], Awaitable[bool]] = has_idle_processor
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    config_locks: KeyedLocks = field(default_factory=KeyedLocks)

    def gateway_of(self, sandbox_id: SandboxId, url: str | None) -> Gateway:
        """A sandbox's gateway, with its token."""
        token, lock = self.box.gateway_token(sandbox_id), self.config_locks.holding(sandbox_id)
        refused_sizes = partial(take_refused_sizes, self.files, sandbox_id)
        return Gateway(self.gateways, url, token, lock, refused_sizes)

    @cached_property
    def files(self) -> Files:
        idle_timeout_s = self.settings.transfer_idle_timeout_s
        return Files(self.exec_files, self.state_dir, idle_timeout_s=idle_timeout_s)

    @cached_property
    def shortcuts(self) -> ImageShortcuts:
        return ImageShortcuts(self.engine)

    @cached_property
    def directory(self) -> InstanceDirectory:
        return InstanceDirectory(self.instances)

    @cached_property
    def transitions(self) -> Transitions:
        return Transitions(self.instances, self.clock)

    @cached_property
    def versions(self) -> OpenclawVersions:
        return OpenclawVersions(self.engine, self.server_facts.openclaw_version)

    @cached_property
    def control(self) -> Control:
        return Control(self.exec, self.box.gateway_token)

    @cached_property
    def readiness(self) -> Readiness:
        timeout_s = self.settings.boot_timeout_s
        return Readiness(self.engine, self.gateway_of, boot_timeout_s=timeout_s)

    @cached_property
    def drain(self) -> Drain:
        return Drain(self.gateway_of, self.settings.drain_timeout_s)

    @cached_property
    def sandbox_control(self) -> SandboxControl:
        return SandboxControl(self.engine, self.drain, self.instances, self.locks)

    @cached_property
    def eviction(self) -> Eviction:
        return Eviction(self.instances, self.engine, self.locks, self.events)

    @cached_property
    def uses(self) -> InstanceUses:
        return InstanceUses(self.clock)

    @cached_property
    def hibernation(self) -> Hibernation:
        return Hibernation(
            instances=self.instances,
            transitions=self.transitions,
            engine=self.engine,
            locks=self.locks,
            uses=self.uses,
            gateway_of=self.gateway_of,
            allows=self.shortcuts.allow,
            after_s=self.settings.hibernate_after_s,
            interval_s=self.settings.reconcile_interval_s,
        )

    @cached_property
    def snapshots(self) -> Snapshots:
        return Snapshots(
            queries=self.snapshot_queries,
            instances=self.instances,
            conversations=ConversationRecords(self.sessions, self.histories),
            engine=self.engine,
            archives=Archives(self.settings.snapshots_dir),
            locks=self.locks,
            sandbox_control=self.sandbox_control,
            clock=self.clock,
        )

    @cached_property
    def initial_configs(self) -> InitialConfigs:
        return InitialConfigs(self.organizations, self.box, self.relay_url)

    @cached_property
    def warm_sandboxes(self) -> WarmSandboxes:
        return WarmSandboxes(
            queries=self.warm_queries,
            engine=self.engine,
            readiness=self.readiness,
            initial_configs=self.initial_configs,
            warm_up=WarmUp(self.control, self.exec, self.home, self.shortcuts.allow),
            hydration=Hydration(
                self.state_transfers,
                self.snapshots,
                self.initial_configs,
                self.gateway_of,
                self.shortcuts.allow,
            ),
            gateway_of=self.gateway_of,
            egress=self.egress_rule.default,
            clock=self.clock,
        )

    @cached_property
    def capacity(self) -> Capacity:
        return Capacity(
            engine=self.engine,
            instances=self.instances,
            warm_sandboxes=self.warm_sandboxes,
            warm_queries=self.warm_queries,
            eviction=self.eviction,
            hibernation=self.hibernation,
            max_running=self.settings.max_running,
        )

    @cached_property
    def boot_queue(self) -> BootQueue:
        return BootQueue(self.settings.boot_concurrency, self.events, self.metrics)

    @cached_property
    def sandbox_boot(self) -> SandboxBoot:
        return SandboxBoot(
            engine=self.engine,
            queue=self.boot_queue,
            capacity=self.capacity,
            initial_configs=self.initial_configs,
            snapshots=self.snapshots,
            egress=self.egress_rule,
            readiness=self.readiness,
        )

    @cached_property
    def fit(self) -> Fit:
        return Fit(
            self.warm_sandboxes,
            self.organizations,
            self.egress_rule,
            self.demand,
            self.shortcuts.allow,
            self.versions,
        )

    @cached_property
    def rehydration(self) -> Rehydration:
        return Rehydration(
            fit=self.fit,
            queries=self.warm_queries,
            warm_sandboxes=self.warm_sandboxes,
            home_copies=HomeCopies(self.engine, self.snapshots),
            engine=self.engine,
            transitions=self.transitions,
            sandbox_control=self.sandbox_control,
        )

    @cached_property
    def provisioner(self) -> Provisioner:
        return Provisioner(
            transitions=self.transitions,
            sandbox_boot=self.sandbox_boot,
            sandbox_control=self.sandbox_control,
            warm_sandboxes=self.warm_sandboxes,
            rehydration=self.rehydration,
            snapshots=self.snapshots,
            faults=self.faults,
            group=self.tasks,
        )

    @cached_property
    def pool(self) -> WarmPool:
        return WarmPool(
            size=self.settings.warm_pool_size,
            size_max=self.settings.warm_pool_max,
            boot_concurrency=self.settings.boot_concurrency,
            demand=self.demand,
            warm_sandboxes=self.warm_sandboxes,
            queries=self.warm_queries,
            provisioner=self.provisioner,
            capacity=self.capacity,
            is_idle=self.is_idle,
        )

    @cached_property
    def demand(self) -> Demand:
        return Demand(self.clock)

    @cached_property
    def allocation(self) -> Allocation:
        return Allocation(self.pool, self.provisioner, self.fit)
