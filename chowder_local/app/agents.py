"""The parts of a server that carry out users' requests on agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from chowder_local.app.sandboxes import Sandboxes
from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.instances.configuration.editing import ConfigEditing
from chowder_local.instances.configuration.live_config import LiveConfig
from chowder_local.instances.configuration.reconfiguration import Reconfiguration
from chowder_local.instances.configuration.validator import ConfigValidator
from chowder_local.instances.conversations.failure_diagnosis import FailureDiagnosis
from chowder_local.instances.conversations.histories import Histories
from chowder_local.instances.conversations.idempotency import IdempotentMessages
from chowder_local.instances.conversations.model_resolver import ModelResolver
from chowder_local.instances.conversations.service import Conversations
from chowder_local.instances.conversations.trace_log import TraceLog
from chowder_local.instances.conversations.transcripts import ConversationReader
from chowder_local.instances.conversations.vision_models import VisionModels
from chowder_local.instances.lifecycle.creation import InstanceCreation
from chowder_local.instances.lifecycle.egress_changes import EgressChanges
from chowder_local.instances.lifecycle.healing import Healing
from chowder_local.instances.lifecycle.in_memory import InMemory
from chowder_local.instances.lifecycle.organization_reset import OrganizationReset
from chowder_local.instances.lifecycle.reconciler import Reconciler
from chowder_local.instances.lifecycle.service import Lifecycle
from chowder_local.instances.lifecycle.waking import Waking
from chowder_local.instances.monitoring.health import Health
from chowder_local.instances.monitoring.usage_samples import UsageSamples
from chowder_local.instances.snapshots.exports import Exports
from chowder_local.instances.snapshots.forks import Forks
from chowder_local.instances.snapshots.interval_snapshots import IntervalSnapshots
from chowder_local.instances.snapshots.recovery import Recovery
from chowder_local.instances.snapshots.restores import Restores
from chowder_local.instances.snapshots.upgrade_checks import UpgradeChecks
from chowder_local.instances.snapshots.upgrades import Upgrades
from chowder_local.openclaw.channels import CONNECT_TIMEOUT_S, Channels
from chowder_local.openclaw.rewinding import Rewinding
from chowder_local.openclaw.skills import Skills
from chowder_local.openclaw.transcripts.chat_history import ChatHistory
from chowder_local.openclaw.transcripts.reader import Transcripts

if TYPE_CHECKING:
    from chowder_local.core.domain import InstanceId, SandboxId
    from chowder_local.openclaw.shortcuts.catalogue import Shortcut


@dataclass(frozen=True, kw_only=True)
class Agents(Sandboxes):
    channel_connect_timeout_s: float = CONNECT_TIMEOUT_S
    vision_models: VisionModels = field(default_factory=VisionModels)

    async def _allows_in(self, shortcut: Shortcut, sandbox_id: SandboxId) -> bool:
        """Whether the server may take a shortcut with the OpenClaw of a sandbox's instance."""
        owner = await self.instances.by_sandbox(sandbox_id)
        version = DEFAULT_VERSION if owner is None else owner.openclaw_version
        return await self.shortcuts.allow(shortcut, version)

    @cached_property
    def config_validator(self) -> ConfigValidator:
        return ConfigValidator(self.engine)

    @cached_property
    def creation(self) -> InstanceCreation:
        return InstanceCreation(
            instances=self.instances,
            organizations=self.organizations,
            config_validator=self.config_validator,
            allocation=self.allocation,
            versions=self.versions,
            clock=self.clock,
        )

    @cached_property
    def waking(self) -> Waking:
        return Waking(
            engine=self.engine,
            sandbox_boot=self.sandbox_boot,
            rehydration=self.rehydration,
            readiness=self.readiness,
            drain=self.drain,
            egress=self.egress_rule,
            events=self.events,
        )

    @cached_property
    def in_memory(self) -> InMemory:
        return InMemory(
            uses=self.uses,
            directory=self.directory,
            transitions=self.transitions,
            locks=self.locks,
            waking=self.waking,
            sandbox_control=self.sandbox_control,
            group=self.tasks,
        )

    @cached_property
    def lifecycle(self) -> Lifecycle:
        def forget(instance_id: InstanceId) -> None:
            self.scripts.forget(instance_id)
            self.recordings.remove(instance_id)
            self.uses.forget(instance_id)
            self.call_log.remove(instance_id)
            self.traces.remove(instance_id)

        return Lifecycle(
            directory=self.directory,
            transitions=self.transitions,
            locks=self.locks,
            sandbox_control=self.sandbox_control,
            in_memory=self.in_memory,
            provisioner=self.provisioner,
            on_delete=forget,
        )

    @cached_property
    def reconfiguration(self) -> Reconfiguration:
        return Reconfiguration(
            directory=self.directory,
            transitions=self.transitions,
            locks=self.locks,
            live_config=LiveConfig(
                transitions=self.transitions,
                engine=self.engine,
                sandbox_boot=self.sandbox_boot,
                readiness=self.readiness,
                files=self.files,
                gateway_of=self.gateway_of,
                vision_models=self.vision_models,
            ),
            waking=self.waking,
            in_memory=self.in_memory,
            sandbox_control=self.sandbox_control,
        )

    @cached_property
    def config_editing(self) -> ConfigEditing:
        return ConfigEditing(self.reconfiguration, self.config_validator, self.gateway_of)

    @cached_property
    def egress(self) -> EgressChanges:
        return EgressChanges(
            rule=self.egress_rule,
            directory=self.directory,
            transitions=self.transitions,
            locks=self.locks,
            provisioner=self.provisioner,
            sandbox_control=self.sandbox_control,
        )

    @cached_property
    def upgrades(self) -> Upgrades:
        return Upgrades(
            checks=self.upgrade_checks,
            transitions=self.transitions,
            locks=self.locks,
            snapshots=self.snapshots,
            provisioner=self.provisioner,
            sandbox_control=self.sandbox_control,
            uses=self.uses,
        )

    @cached_property
    def upgrade_checks(self) -> UpgradeChecks:
        return UpgradeChecks(
            self.versions, self.directory, self.snapshots, self.initial_configs, self.engine
        )

    @cached_property
    def healing(self) -> Healing:
        return Healing(
            instances=self.instances,
            transitions=self.transitions,
            locks=self.locks,
            engine=self.engine,
            provisioner=self.provisioner,
            egress=self.egress_rule,
            events=self.events,
            clock=self.clock,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            instances=self.instances,
            warm_queries=self.warm_queries,
            engine=self.engine,
            healing=self.healing,
            eviction=self.eviction,
            snapshots=self.snapshots,
            events=self.events,
            interval_s=self.settings.reconcile_interval_s,
            paused_ttl_s=self.settings.paused_ttl_s,
            clock=self.clock,
        )

    @cached_property
    def forks(self) -> Forks:
        return Forks(self.snapshots, self.creation, self.lifecycle, self.events)

    @cached_property
    def restores(self) -> Restores:
        return Restores(
            snapshots=self.snapshots,
            directory=self.directory,
            transitions=self.transitions,
            locks=self.locks,
            allocation=self.allocation,
            sandbox_control=self.sandbox_control,
            histories=self.histories,
            events=self.events,
        )

    @cached_property
    def interval_snapshots(self) -> IntervalSnapshots:
        return IntervalSnapshots(
            instances=self.instances,
            snapshots=self.snapshots,
            histories=self.histories,
            uses=self.uses,
            interval_s=self.settings.snapshot_interval_s,
            clock=self.clock,
        )

    @cached_property
    def recovery(self) -> Recovery:
        return Recovery(
            instances=self.instances,
            engine=self.engine,
            snapshots=self.snapshots,
            restores=self.restores,
            histories=self.histories,
            sessions=self.sessions,
            events=self.events,
            clock=self.clock,
        )

    @cached_property
    def exports(self) -> Exports:
        return Exports(
            self.snapshots,
            self.forks,
            made_by=f"chowder-local {self.server_facts.version}",
            versions=self.versions,
            clock=self.clock,
            allows=self.shortcuts.allow,
        )

    @cached_property
    def organization_reset(self) -> OrganizationReset:
        return OrganizationReset(
            instances=self.instances,
            lifecycle=self.lifecycle,
            keys=self.scoped_keys,
            faults=self.faults,
            scripts=self.scripts,
            snapshots=self.snapshots,
        )

    @cached_property
    def transcripts(self) -> Transcripts:
        return Transcripts(
            self.exec,
            self.exec_beside,
            self.state_dir,
            ChatHistory(self.control),
            self._allows_in,
        )

    @cached_property
    def traces(self) -> TraceLog:
        return TraceLog(self.clock)

    @cached_property
    def conversations(self) -> Conversations:
        rewinding = Rewinding(self.transcripts, self.control)
        return Conversations(
            models=ModelResolver(
                model_keys=self.model_keys,
                endpoints=self.endpoints,
                catalogue=self.catalogue,
                recordings=self.recordings,
                relay_token_of=self.box.relay_token,
                vision_models=self.vision_models,
            ),
            session_names=self.session_names,
            histories=Histories(
                keeps_turns=lambda: bool(self.settings.snapshot_interval_s and self.engine.nodes()),
                queries=self.histories,
                watch=self.session_watch,
                rewinding=rewinding,
                clock=self.clock,
            ),
            traces=self.traces,
            diagnosis=FailureDiagnosis(
                self.engine, self.healing, self.model_failures, self._allows_in
            ),
            in_memory=self.in_memory,
            gateway_of=self.gateway_of,
            shutdown=self.shutdown,
        )

    @cached_property
    def idempotency(self) -> IdempotentMessages:
        return IdempotentMessages(self.idempotent_answers, self.clock)

    @cached_property
    def conversation_reader(self) -> ConversationReader:
        return ConversationReader(
            instances=self.instances,
            sessions=self.sessions,
            locks=self.locks,
            uses=self.uses,
            watch=self.session_watch,
            transcripts=self.transcripts,
        )

    @cached_property
    def channels(self) -> Channels:
        timeout_s = self.channel_connect_timeout_s
        return Channels(
            self.exec,
            self.gateway_of,
            self.tasks,
            state_dir=self.state_dir,
            connect_timeout_s=timeout_s,
        )

    @cached_property
    def skills(self) -> Skills:
        return Skills(self.control, self.exec, self.gateway_of)

    @cached_property
    def health(self) -> Health:
        return Health(
            self.server_facts,
            self.engine,
            self.shortcuts.misfits,
            self.instances,
            self.warm_queries,
            self.pool,
            self.provisioner,
            self.boot_queue,
            self.capacity,
            self.clock,
        )

    @cached_property
    def usage_samples(self) -> UsageSamples:
        return UsageSamples(self.engine, self.instances)
