"""All services of a server, composed from its settings and from what its lifespan opens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from chowder_local.accounts.cost_report import CostReports
from chowder_local.accounts.credentials import ModelCredentials
from chowder_local.accounts.keys import Authentication, DashboardSessions, Keys
from chowder_local.accounts.organizations import ModelKeys, Organizations, Subscriptions
from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.core.events import Events
from chowder_local.core.fault_injection import Faults
from chowder_local.core.metrics import Metrics
from chowder_local.core.tasks import KeyedLocks, Shutdown
from chowder_local.diagnostics.checks import ServerDiagnosis
from chowder_local.feature_hooks import FeatureHooks
from chowder_local.instances.configuration.initial_config import ConfigValidator, InitialConfigs
from chowder_local.instances.configuration.live_config import (
    ConfigEditing,
    Reconfiguration,
)
from chowder_local.instances.conversations.activity import Activities
from chowder_local.instances.conversations.histories import Histories
from chowder_local.instances.conversations.idempotency import IdempotentMessages
from chowder_local.instances.conversations.models import ModelResolver, VisionModels
from chowder_local.instances.conversations.runs import Runs
from chowder_local.instances.conversations.service import Conversations, FailureDiagnosis
from chowder_local.instances.conversations.sessions import (
    ConversationReader,
    SessionControl,
    SessionNames,
)
from chowder_local.instances.conversations.trace_log import TraceLog
from chowder_local.instances.directory import InstanceDirectory
from chowder_local.instances.gateway_events import GatewayEvents
from chowder_local.instances.lifecycle.agents import DRAIN_TIMEOUT_S, Agents
from chowder_local.instances.lifecycle.boots import BootQueue, Readiness
from chowder_local.instances.lifecycle.capacity import Capacity
from chowder_local.instances.lifecycle.creation import InstanceCreation
from chowder_local.instances.lifecycle.provisioner import Provisioner
from chowder_local.instances.lifecycle.reconciler import RECONCILE_INTERVAL_S, Healing, Reconciler
from chowder_local.instances.lifecycle.residency import Hibernation, Residency
from chowder_local.instances.lifecycle.service import Lifecycle, OrganizationReset
from chowder_local.instances.monitoring.health import Health
from chowder_local.instances.monitoring.usage import UsageSamples
from chowder_local.instances.schedule.agent_times import AgentTimes
from chowder_local.instances.schedule.carried_jobs import CarriedJobs
from chowder_local.instances.schedule.due_jobs import DueJobs
from chowder_local.instances.schedule.unasked_turns import UnaskedTurns
from chowder_local.instances.snapshots.archives import Archives
from chowder_local.instances.snapshots.exports import Exports
from chowder_local.instances.snapshots.forks import Forks, Restores
from chowder_local.instances.snapshots.recovery import IntervalSnapshots, Recovery
from chowder_local.instances.snapshots.service import Snapshots
from chowder_local.instances.snapshots.upgrades import UpgradeChecks, Upgrades
from chowder_local.instances.versions import ImageShortcuts, OpenclawVersions
from chowder_local.instances.warm_pool.pool import WarmPool, has_idle_processor
from chowder_local.instances.warm_pool.recycling import Recycling
from chowder_local.instances.warm_pool.rehydration import Rehydration
from chowder_local.instances.warm_pool.sandboxes import (
    Demand,
    WarmSandboxes,
    WarmSandboxMatcher,
)
from chowder_local.openclaw.channels import CONNECT_TIMEOUT_S, Channels
from chowder_local.openclaw.files import TRANSFER_IDLE_TIMEOUT_S, Files
from chowder_local.openclaw.gateway import Gateway, take_refused_sizes
from chowder_local.openclaw.rewinding import Rewinding
from chowder_local.openclaw.sandbox_exec import Control
from chowder_local.openclaw.skills import Skills
from chowder_local.openclaw.transcripts.chat_history import ChatHistory
from chowder_local.openclaw.transcripts.reader import Transcripts
from chowder_local.openclaw.warmup import WarmUp
from chowder_local.relay.call_log import CallJournal, CallLog
from chowder_local.relay.compaction import Compactions
from chowder_local.relay.local_model import LocalModel
from chowder_local.relay.metering import Metering
from chowder_local.relay.prices import Price, Prices
from chowder_local.relay.prompt_format import FailureMarkers
from chowder_local.relay.service import Relay
from chowder_local.relay.session_watch import SessionWatch
from chowder_local.relay.upstreams import Catalogue, Upstreams
from chowder_local.store.agent_entries import AgentEntries
from chowder_local.store.conversation_histories import ConversationHistoryQueries
from chowder_local.store.database import MetaQueries
from chowder_local.store.due_jobs import DueJobQueries
from chowder_local.store.idempotent_answers import IdempotentAnswerQueries
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.keys import DashboardSessionQueries, KeyQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.snapshots import SnapshotQueries
from chowder_local.store.tables import UnaskedMessageRow
from chowder_local.store.usage import UsageQueries
from chowder_local.store.warm_sandboxes import WarmSandboxQueries

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from chowder_local.core.domain import InstanceId, OrganizationId, SandboxId
    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.core.secrets import SecretBox
    from chowder_local.core.settings import Settings
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.agents import EgressRule
    from chowder_local.instances.monitoring.health import ServerFacts
    from chowder_local.openclaw.file_programs import FilePrograms
    from chowder_local.openclaw.home.state_transfer import StateTransfers
    from chowder_local.openclaw.sandbox_exec import Processes
    from chowder_local.openclaw.shortcuts import Shortcut
    from chowder_local.relay.recordings import RecordingRegistry
    from chowder_local.relay.scripts.registry import ScriptRegistry
    from chowder_local.store.database import Database
    from chowder_local.upstream.forward import Forwarder

Kind = TypeVar("Kind")


def now() -> datetime:
    """The clock of a server outside tests."""
    return datetime.now(UTC)


@dataclass(kw_only=True, eq=False, repr=False)
class Services:
    """The services, one name each. Tests compose them from other parts.

    `store_id` identifies the data directory on the engine and in browsers. `providers` forwards to
    the model providers, through a proxy if the environment names one. `exec` runs programs in a
    running sandbox, `exec_beside` on the volume of any sandbox. `state_dir` is where OpenClaw keeps
    an agent's files and databases.
    """

    settings: Settings
    endpoints: Mapping[str, Endpoint]
    database: Database
    secret_box: SecretBox
    store_id: str
    default_organization_id: OrganizationId
    tasks: asyncio.TaskGroup
    providers: Forwarder
    scripts: ScriptRegistry
    recordings: RecordingRegistry
    engine: Engine
    exec: Processes
    exec_beside: Processes
    file_programs: FilePrograms
    home: str
    state_dir: str
    gateways: Forwarder
    state_transfers: StateTransfers
    egress_rule: EgressRule
    relay_url: str
    server_facts: ServerFacts
    engine_facts: Callable[[], Awaitable[EngineFacts]]
    is_idle: Callable[[], Awaitable[bool]] = has_idle_processor
    channel_connect_timeout_s: float = CONNECT_TIMEOUT_S
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    reconcile_interval_s: float = RECONCILE_INTERVAL_S
    transfer_idle_timeout_s: float = TRANSFER_IDLE_TIMEOUT_S
    clock: Callable[[], datetime] = now
    events: Events = field(default_factory=Events)
    metrics: Metrics = field(default_factory=Metrics)
    shutdown: Shutdown = field(default_factory=Shutdown)
    feature_hooks: FeatureHooks = field(default_factory=FeatureHooks)
    features: dict[type, object] = field(default_factory=dict)
    """The services of features, by class."""

    def __post_init__(self) -> None:
        self.max_body_bytes = self.settings.max_body_bytes
        self._compose_store()
        self._compose_accounts()
        self._compose_model_calls()
        self._compose_sandboxes()
        self._compose_instances()
        self._compose_snapshots()
        self._compose_conversations()
        self._compose_reports()

    def _compose_store(self) -> None:
        self.meta = MetaQueries(self.database)
        self.organization_queries = OrganizationQueries(self.database)
        self.key_queries = KeyQueries(self.database)
        self.instances = InstanceQueries(self.database, self.secret_box, self.events)
        self.warm_queries = WarmSandboxQueries(self.database, self.events)
        self.snapshot_queries = SnapshotQueries(self.database, self.secret_box, self.events)
        self.sessions = SessionQueries(self.database)
        self.histories = ConversationHistoryQueries(self.database, self.secret_box)
        self.idempotent_answers = IdempotentAnswerQueries(self.database, self.secret_box)
        self.usage = UsageQueries(self.database)
        self.messages = AgentEntries(
            self.database, self.secret_box, UnaskedMessageRow, self.shutdown
        )

    def _compose_accounts(self) -> None:
        self.organizations = Organizations(self.organization_queries, self.secret_box, self.clock)
        self.authentication = Authentication(self.key_queries, self.clock)
        self.keys = Keys(self.key_queries, self.instances, self.clock)
        self.model_keys = ModelKeys(
            self.organizations, self.endpoints, self.default_organization_id
        )
        self.subscriptions = Subscriptions(self.organizations, self.secret_box, self.clock)
        self.prices = Prices({name: Price(*usd) for name, usd in self.settings.prices.items()})
        self.cost_reports = CostReports(self.usage, self.prices)
        self.faults = Faults(self.events, self.clock)
        self.dashboard_sessions = DashboardSessions(
            authentication=self.authentication,
            keys=self.key_queries,
            sessions=DashboardSessionQueries(self.database),
            secret_box=self.secret_box,
            store_id=self.store_id,
            clock=self.clock,
        )

    def _compose_model_calls(self) -> None:
        settings = self.settings
        self.call_log = CallLog(prices=self.prices)
        self.model_failures = FailureMarkers()
        self.session_watch = SessionWatch()
        self.catalogue = Catalogue(self.providers)
        self.session_names = SessionNames(self.sessions, self.clock)
        self.journal = CallJournal(
            self.call_log,
            self.model_failures,
            self.events,
            self.metrics,
            self.recordings.recorder,
        )
        self.local_model = LocalModel(self.scripts, self.recordings, self.session_names.find)
        self.relay = Relay(
            resolver=ModelCredentials(
                self.secret_box, self.instances, self.warm_queries, self.model_keys
            ),
            upstreams=Upstreams(
                settings.model_base_urls, self.endpoints, self.providers, settings.relay_paths
            ),
            journal=self.journal,
            metering=Metering(self.usage, self.clock),
            local_model=self.local_model,
            session_watch=self.session_watch,
            compactions=Compactions(settings.compaction_timeout_s, self.model_failures),
            before_model_call=self.feature_hooks.before_model_call,
            reserve=self.feature_hooks.reserve,
        )

    def _compose_sandboxes(self) -> None:
        settings = self.settings
        self.config_locks = KeyedLocks()
        self.files = Files(
            self.file_programs, self.state_dir, idle_timeout_s=self.transfer_idle_timeout_s
        )
        self.shortcuts = ImageShortcuts(self.engine)
        self.directory = InstanceDirectory(self.instances)
        self.gateway_events = GatewayEvents(self.secret_box, self.instances)
        self.versions = OpenclawVersions(self.engine, self.server_facts.openclaw_version)
        self.control = Control(self.exec, self.secret_box.gateway_token)
        self.readiness = Readiness(
            self.engine, self.gateway_of, boot_timeout_s=settings.boot_timeout_s
        )
        self.initial_configs = InitialConfigs(
            self.organizations, self.secret_box, self.relay_url, settings.system_jobs
        )
        self.boot_queue = BootQueue(settings.boot_concurrency, self.events, self.metrics)
        self.agents = Agents(
            instances=self.instances,
            engine=self.engine,
            gateway_of=self.gateway_of,
            initial_configs=self.initial_configs,
            readiness=self.readiness,
            boot_queue=self.boot_queue,
            egress=self.egress_rule,
            events=self.events,
            drain_timeout_s=self.drain_timeout_s,
            clock=self.clock,
        )
        self.residency = Residency(agents=self.agents, group=self.tasks, clock=self.clock)
        self.waiting_control = Control(
            self.exec, self.secret_box.gateway_token, self.residency.wait_out_suspension
        )
        self.due_jobs = DueJobs(
            instances=self.instances,
            queries=DueJobQueries(self.database),
            use=self.residency.using,
            gateway_of=self.gateway_of,
            events=self.events,
            group=self.tasks,
            clock=self.clock,
        )
        self.journal.on_call = self.due_jobs.note_call
        self.hibernation = Hibernation(
            agents=self.agents,
            residency=self.residency,
            due_jobs=self.due_jobs,
            standing_work=self.feature_hooks.standing_work,
            allows=self.shortcuts.allow,
            after_s=settings.hibernate_after_s,
            interval_s=self.reconcile_interval_s,
        )
        self.snapshots = Snapshots(
            queries=self.snapshot_queries,
            sessions=self.sessions,
            histories=self.histories,
            archives=Archives(settings.snapshots_dir),
            have_jobs=self.due_jobs.is_followed,
            agents=self.agents,
            clock=self.clock,
        )
        self.warm_sandboxes = WarmSandboxes(
            queries=self.warm_queries,
            agents=self.agents,
            snapshots=self.snapshots,
            warm_up=WarmUp(self.control, self.exec, self.home, self.shortcuts.allow),
            state_transfers=self.state_transfers,
            allows=self.shortcuts.allow,
            clock=self.clock,
        )
        self.recycling = Recycling(
            warm_sandboxes=self.warm_sandboxes,
            organizations=self.organizations,
            versions=self.versions,
            file_programs=self.file_programs,
            group=self.tasks,
            setting=settings.reuse,
        )
        self.capacity = Capacity(
            warm_sandboxes=self.warm_sandboxes,
            warm_queries=self.warm_queries,
            agents=self.agents,
            hibernation=self.hibernation,
            max_sandboxes=settings.max_sandboxes,
        )
        self.demand = Demand(self.clock)
        self.matcher = WarmSandboxMatcher(
            self.warm_sandboxes, self.organizations, self.demand, self.versions
        )
        self.rehydration = Rehydration(
            matcher=self.matcher,
            queries=self.warm_queries,
            warm_sandboxes=self.warm_sandboxes,
            snapshots=self.snapshots,
            agents=self.agents,
        )
        self.agents.connect(
            reserve_memory=self.capacity.reserve,
            source_of=self.snapshots.source,
            move_home=self.rehydration.move,
            take_another=self.rehydration.take_another,
        )
        self.carried_jobs = CarriedJobs(
            agents=self.agents,
            due_jobs=self.due_jobs,
            snapshots=self.snapshot_queries,
            in_sandbox=self.exec,
            on_volume=self.exec_beside,
            state_dir=self.state_dir,
        )
        self.provisioner = Provisioner(
            agents=self.agents,
            carried_jobs=self.carried_jobs,
            warm_sandboxes=self.warm_sandboxes,
            recycling=self.recycling,
            snapshots=self.snapshots,
            faults=self.faults,
            group=self.tasks,
        )
        self.pool = WarmPool(
            usual_size=settings.warm_pool_size,
            max_size=settings.warm_pool_max,
            boot_concurrency=settings.boot_concurrency,
            demand=self.demand,
            warm_sandboxes=self.warm_sandboxes,
            recycling=self.recycling,
            queries=self.warm_queries,
            provisioner=self.provisioner,
            capacity=self.capacity,
            is_idle=self.is_idle,
        )

    def _compose_instances(self) -> None:
        settings = self.settings
        self.traces = TraceLog(self.clock, self.events)
        self.vision_models = VisionModels()
        self.config_validator = ConfigValidator(self.engine)
        self.creation = InstanceCreation(
            instances=self.instances,
            organizations=self.organizations,
            config_validator=self.config_validator,
            versions=self.versions,
            pool=self.pool,
            provisioner=self.provisioner,
            matcher=self.matcher,
            clock=self.clock,
        )
        self.lifecycle = Lifecycle(
            directory=self.directory,
            agents=self.agents,
            residency=self.residency,
            provisioner=self.provisioner,
            recycling=self.recycling,
            on_delete=self._forget,
        )
        self.reconfiguration = Reconfiguration(
            directory=self.directory,
            agents=self.agents,
            files=self.files,
            vision_models=self.vision_models,
        )
        self.config_editing = ConfigEditing(
            self.reconfiguration, self.config_validator, self.waiting_gateway_of
        )
        self.healing = Healing(agents=self.agents, provisioner=self.provisioner, clock=self.clock)
        self.reconciler = Reconciler(
            warm_queries=self.warm_queries,
            healing=self.healing,
            agents=self.agents,
            snapshots=self.snapshots,
            interval_s=self.reconcile_interval_s,
            release_stopped_after_s=settings.release_stopped_after_s,
            clock=self.clock,
        )

    def _compose_snapshots(self) -> None:
        settings = self.settings
        self.upgrade_checks = UpgradeChecks(
            self.versions, self.directory, self.snapshots, self.initial_configs, self.engine
        )
        self.upgrades = Upgrades(
            checks=self.upgrade_checks,
            snapshots=self.snapshots,
            provisioner=self.provisioner,
            agents=self.agents,
            residency=self.residency,
        )
        self.forks = Forks(
            self.snapshots,
            self.creation,
            self.lifecycle,
            self.events,
            self.carried_jobs.staying_on.add,
        )
        self.restores = Restores(
            snapshots=self.snapshots,
            agents=self.agents,
            creation=self.creation,
            recycling=self.recycling,
            histories=self.histories,
            events=self.events,
        )
        self.interval_snapshots = IntervalSnapshots(
            instances=self.instances,
            snapshots=self.snapshots,
            histories=self.histories,
            residency=self.residency,
            interval_s=settings.snapshot_interval_s,
            clock=self.clock,
        )
        self.recovery = Recovery(
            instances=self.instances,
            engine=self.engine,
            snapshots=self.snapshots,
            restores=self.restores,
            histories=self.histories,
            sessions=self.sessions,
            events=self.events,
            clock=self.clock,
        )
        self.exports = Exports(
            self.snapshots,
            self.forks,
            made_by=f"chowder-local {self.server_facts.version}",
            versions=self.versions,
            clock=self.clock,
            allows=self.shortcuts.allow,
            jobs_of=self.carried_jobs.read,
        )
        self.organization_reset = OrganizationReset(
            instances=self.instances,
            lifecycle=self.lifecycle,
            keys=self.keys,
            faults=self.faults,
            scripts=self.scripts,
            snapshots=self.snapshots,
        )

    def _compose_conversations(self) -> None:
        self.transcripts = Transcripts(
            self.exec,
            self.exec_beside,
            self.state_dir,
            ChatHistory(self.control),
            self._allows_in,
        )
        self.model_resolver = ModelResolver(
            model_keys=self.model_keys,
            endpoints=self.endpoints,
            catalogue=self.catalogue,
            recordings=self.recordings,
            relay_token_of=self.secret_box.relay_token,
            vision_models=self.vision_models,
        )
        self.unasked_turns = UnaskedTurns(
            traces=self.traces,
            instances=self.instances,
            residency=self.residency,
            gateway_of=self.waiting_gateway_of,
            control=self.waiting_control,
            messages=self.messages,
            group=self.tasks,
        )
        self.session_watch.unasked = self.unasked_turns
        self.activities = Activities(
            instances=self.instances,
            traces=self.traces,
            unasked_turns=self.unasked_turns,
            gateway_of=self.waiting_gateway_of,
            control=self.waiting_control,
            events=self.events,
            shutdown=self.shutdown,
            group=self.tasks,
            clock=self.clock,
        )
        self.traces.on_work = self.activities.watch
        self.agent_times = AgentTimes(self.clock)
        self.conversations = Conversations(
            model_resolver=self.model_resolver,
            session_names=self.session_names,
            histories=Histories(
                keeps_turns=lambda: bool(self.settings.snapshot_interval_s and self.engine.nodes()),
                queries=self.histories,
                watch=self.session_watch,
                rewinding=Rewinding(self.transcripts, self.waiting_control),
                traces=self.traces,
                clock=self.clock,
            ),
            traces=self.traces,
            diagnosis=FailureDiagnosis(
                self.engine, self.healing, self.model_failures, self._allows_in
            ),
            residency=self.residency,
            gateway_of=self.waiting_gateway_of,
            shutdown=self.shutdown,
        )
        self.session_control = SessionControl(
            control=self.waiting_control,
            activities=self.activities,
            on_delete=self.conversations.forget_session,
            session_queries=self.sessions,
            histories=self.histories,
            transcripts=self.transcripts,
        )
        self.runs = Runs(
            directory=self.directory,
            traces=self.traces,
            call_log=self.call_log,
            recordings=self.recordings,
            session_names=self.session_names,
            model_keys=self.model_keys,
            secret_box=self.secret_box,
        )
        self.idempotency = IdempotentMessages(self.idempotent_answers, self.clock)
        self.conversation_reader = ConversationReader(
            agents=self.agents,
            residency=self.residency,
            session_queries=self.sessions,
            watch=self.session_watch,
            transcripts=self.transcripts,
        )
        self.channels = Channels(
            self.exec,
            self.waiting_gateway_of,
            self.tasks,
            state_dir=self.state_dir,
            files=self.files,
            offline_fields=self.feature_hooks.offline_fields,
            is_offline=self.settings.messengers == "offline",
            connect_timeout_s=self.channel_connect_timeout_s,
        )
        self.skills = Skills(self.waiting_control, self.exec, self.waiting_gateway_of)

    def _compose_reports(self) -> None:
        self.health = Health(
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
        self.usage_samples = UsageSamples(self.engine, self.instances)
        self.server_diagnosis = ServerDiagnosis(self.settings, self.health, self.engine_facts)

    def feature(self, kind: type[Kind]) -> Kind:
        """A feature's service, by its class."""
        return cast("Kind", self.features[kind])

    def gateway_of(self, sandbox_id: SandboxId, url: str | None) -> Gateway:
        """A sandbox's gateway, with its token."""
        token, lock = (
            self.secret_box.gateway_token(sandbox_id),
            self.config_locks.holding(sandbox_id),
        )
        refused_sizes = partial(take_refused_sizes, self.files, sandbox_id)
        is_disk_full = partial(self.readiness.is_disk_full, sandbox_id)
        return Gateway(self.gateways, url, token, lock, refused_sizes, is_disk_full)

    def waiting_gateway_of(self, sandbox_id: SandboxId, url: str | None) -> Gateway:
        """As `gateway_of`, for calls that do not hold the agent: they wait for copies of it."""
        gateway = self.gateway_of(sandbox_id, url)
        gateway.when_resumed = partial(self.residency.wait_out_suspension, sandbox_id)
        return gateway

    async def _allows_in(self, shortcut: Shortcut, sandbox_id: SandboxId) -> bool:
        """Whether the server may take a shortcut with the OpenClaw of a sandbox's instance."""
        owner = await self.instances.by_sandbox(sandbox_id)
        version = DEFAULT_VERSION if owner is None else owner.openclaw_version
        return await self.shortcuts.allow(shortcut, version)

    def _forget(self, instance_id: InstanceId) -> None:
        """Drops what is in memory of an instance that is deleted."""
        self.scripts.forget(instance_id)
        self.recordings.remove(instance_id)
        self.residency.forget(instance_id)
        self.call_log.remove(instance_id)
        self.unasked_turns.forget(instance_id)
        self.traces.remove(instance_id)
        for forget in self.feature_hooks.on_instance_gone:
            forget(instance_id)
