"""Everything that instances are made of: real but for the engine, which is scripted."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.accounts.authentication import Authentication
from chowder_local.accounts.model_keys import ModelKeys
from chowder_local.accounts.organizations import Organizations
from chowder_local.accounts.subscriptions import Subscriptions
from chowder_local.core.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    SandboxId,
)
from chowder_local.core.events import Events
from chowder_local.core.fault_injection import Faults
from chowder_local.core.metrics import Metrics
from chowder_local.core.model_endpoints import Endpoint
from chowder_local.core.secrets import SecretBox
from chowder_local.core.shutdown import Shutdown
from chowder_local.core.tasks import owned_tasks
from chowder_local.instances.configuration.editing import ConfigEditing
from chowder_local.instances.configuration.initial_config import InitialConfigs
from chowder_local.instances.configuration.live_config import LiveConfig
from chowder_local.instances.configuration.validator import ConfigValidator
from chowder_local.instances.conversations.histories import Histories
from chowder_local.instances.conversations.model_resolver import ModelResolver
from chowder_local.instances.conversations.service import Conversations
from chowder_local.instances.conversations.transcripts import ConversationReader
from chowder_local.instances.conversations.vision_models import VisionModels
from chowder_local.instances.lifecycle.capacity import Capacity
from chowder_local.instances.lifecycle.drain import Drain
from chowder_local.instances.lifecycle.egress import EgressChanges, EgressRule
from chowder_local.instances.lifecycle.eviction import Eviction
from chowder_local.instances.lifecycle.locks import InstanceLocks
from chowder_local.instances.lifecycle.provisioner import Provisioner
from chowder_local.instances.lifecycle.readiness import Readiness
from chowder_local.instances.lifecycle.reconciler import Reconciler
from chowder_local.instances.lifecycle.service import InstanceDraft, Lifecycle
from chowder_local.instances.monitoring.health import Health, ServerFacts
from chowder_local.instances.snapshots.archives import Archives
from chowder_local.instances.snapshots.exports import Exports
from chowder_local.instances.snapshots.forks import Forks
from chowder_local.instances.snapshots.service import Snapshots
from chowder_local.instances.warm_pool.pool import Pool
from chowder_local.instances.warm_pool.sandboxes import Spares
from chowder_local.openclaw.channels import Channels
from chowder_local.openclaw.config.agent_config import CONFIG_FILE
from chowder_local.openclaw.config.locks import ConfigLocks
from chowder_local.openclaw.control import Control
from chowder_local.openclaw.files import Files
from chowder_local.openclaw.gateway import Gateway, open_gateways
from chowder_local.openclaw.home.state_transfer import StateTransfers
from chowder_local.openclaw.rewinding import Rewinding
from chowder_local.openclaw.skills import Skills
from chowder_local.openclaw.transcripts.reader import Transcripts
from chowder_local.openclaw.warmup import WarmUp
from chowder_local.relay.catalogue import Catalogue
from chowder_local.relay.prompt_format.failure_markers import FailureMarkers
from chowder_local.relay.recordings.registry import RecordingRegistry
from chowder_local.relay.scripts.registry import ScriptRegistry
from chowder_local.relay.session_watch import SessionWatch
from chowder_local.store.conversation_histories import ConversationHistoryQueries
from chowder_local.store.database import Database
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.keys import KeyQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.snapshots import SnapshotQueries
from chowder_local.store.spares import SpareQueries
from chowder_local.store.usage import UsageQueries
from tests.scripted.database import SECRET, kitchen_database
from tests.scripted.engine import ScriptedEngine
from tests.scripted.gateway import ScriptedGateway
from tests.scripted.local_processes import LocalProcesses
from tests.scripted.programs import ScriptedPrograms, done
from tests.scripted.serving import eventually, serve

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from pathlib import Path

ENDPOINTS = {
    "lab": Endpoint("lab", "http://127.0.0.1:9/v1", contexts={"lab": 16_000}),
    "cloud": Endpoint("cloud", "http://127.0.0.1:9/v1", key="sk-cloud"),
    # Nobody listens there.
    "ollama": Endpoint("ollama", "http://127.0.0.1:9/v1"),
}
RELAY_URL = "http://relay.local:2470"
MAX_BODY_BYTES = 64 * 1024
TRANSFER_IDLE_TIMEOUT_S = 5.0
NO_CONVERSATION = done(is_known=False, messages=[], has_more=False)
PROGRAMS = {"read": NO_CONVERSATION, "erase": done()}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class World:
    """The parts, to be looked at and played upon."""

    clock: Clock
    database: Database
    engine: ScriptedEngine
    gateway: ScriptedGateway
    box: SecretBox
    instances: InstanceQueries
    sessions: SessionQueries
    histories: ConversationHistoryQueries
    session_watch: SessionWatch
    usage: UsageQueries
    keys: KeyQueries
    organizations: Organizations
    authentication: Authentication
    subscriptions: Subscriptions
    model_failures: FailureMarkers
    locks: InstanceLocks
    config_locks: ConfigLocks
    readiness: Readiness
    provisioner: Provisioner
    spares: Spares
    spare_queries: SpareQueries
    capacity: Capacity
    pool: Pool
    eviction: Eviction
    reconciler: Reconciler
    lifecycle: Lifecycle
    egress: EgressChanges
    snapshot_queries: SnapshotQueries
    snapshots: Snapshots
    forks: Forks
    exports: Exports
    conversations: Conversations
    reading: ConversationReader
    processes: LocalProcesses
    home: Path
    files: Files
    programs: ScriptedPrograms
    beside: ScriptedPrograms
    skills: Skills
    channels: Channels
    config_editing: ConfigEditing
    health: Health
    shutdown: Shutdown
    scripts: ScriptRegistry
    recordings: RecordingRegistry
    events: Events
    faults: Faults
    metrics: Metrics
    tasks: asyncio.TaskGroup
    organization_id: OrganizationId
    key: str

    async def now(self, instance: Instance) -> Instance:
        """The instance as the store has it."""
        known = await self.instances.get(instance.id)
        assert known is not None
        return known

    async def settled(self, instance: Instance) -> Instance:
        """The instance when no boot of it is under way any more."""
        await eventually(
            lambda: not self.provisioner.is_under_way(instance.id), "the boot has ended"
        )
        return await self.now(instance)

    async def created(self, **fields: Any) -> Instance:
        """A new instance, whose boot has ended."""
        draft = InstanceDraft(name=fields.pop("name", "Ada"), **fields)
        return await self.settled(await self.lifecycle.create(self.organization_id, draft))

    async def stopped(self) -> Instance:
        """A new instance that was stopped."""
        instance = await self.created()
        return await self.lifecycle.stop(self.organization_id, instance.id)

    async def placed(self, status: InstanceStatus, number: int = 1, **fields: Any) -> Instance:
        """A row as an earlier life of the server may have left it."""
        earlier: dict[str, Any] = {
            "born_at": self.clock.now,
            "gateway_url": self.engine.gateway_url,
            "organization_id": self.organization_id,
            "name": "Ada",
        }
        instance = Instance(
            id=InstanceId(f"instance-{number}"),
            status=status,
            model_provider=ModelProvider.ANTHROPIC,
            sandbox_id=SandboxId(f"chowder-{number:012x}"),
            created_at=self.clock.now,
            updated_at=self.clock.now,
            **earlier | fields,
        )
        await self.instances.add(instance, limit=None)
        return instance


@asynccontextmanager
async def open_world(
    tmp_path: Path,
    *,
    boot_timeout_s: float = 10.0,
    drain_timeout_s: float = 10.0,
    concurrency: int = 2,
    interval_s: float = 0.001,
    pool_size: int = 0,
    freeze_after_s: float = 0.0,
    max_running: int | None = None,
    paused_ttl_s: float = 900.0,
    events: Events | None = None,
    egress: EgressRule | None = None,
) -> AsyncIterator[World]:
    """A world with an organization that has keys for two of the three providers."""
    clock, gateway, box = Clock(), ScriptedGateway(), SecretBox(SECRET)
    # No step of the way to it may be a link.
    processes, home = LocalProcesses(), tmp_path.resolve() / "home"
    home.mkdir()
    (home / CONFIG_FILE).write_text("{}")
    kitchen = await kitchen_database(tmp_path, clock)
    async with (
        Database.open(kitchen.path) as database,
        serve(gateway) as url,
        open_gateways() as forwarder,
        owned_tasks() as tasks,
        StateTransfers(processes, str(home)) as state_transfers,
    ):
        engine, events, metrics = ScriptedEngine(url), events or Events(), Metrics()
        scripts, recordings = ScriptRegistry(), RecordingRegistry()
        faults = Faults(events, clock)
        egress = egress or EgressRule()
        engine.after_boot = gateway.booted
        instances, sessions = InstanceQueries(database, box, events), SessionQueries(database)
        keys = KeyQueries(database)
        organizations = Organizations(OrganizationQueries(database), box, clock)
        model_keys = ModelKeys(organizations, ENDPOINTS, OrganizationId("default"))

        config_locks, vision_models = ConfigLocks(), VisionModels()

        def gateway_of(sandbox_id: SandboxId, url: str) -> Gateway:
            return Gateway(
                forwarder, url, box.gateway_token(sandbox_id), config_locks.lock_of(sandbox_id)
            )

        programs, beside = ScriptedPrograms(dict(PROGRAMS)), ScriptedPrograms()
        control = Control(programs, box.gateway_token)
        readiness = Readiness(engine, gateway_of, boot_timeout_s=boot_timeout_s)
        locks, failures, shutdown = InstanceLocks(), FailureMarkers(), Shutdown()
        spare_queries = SpareQueries(database, events)
        eviction = Eviction(instances, engine, locks, events)
        initial_configs = InitialConfigs(box, RELAY_URL)
        drain = Drain(gateway_of, drain_timeout_s)
        snapshot_queries = SnapshotQueries(database, box, events)
        histories, session_watch = ConversationHistoryQueries(database), SessionWatch()
        transcripts = Transcripts(programs, beside, str(home))
        snapshots = Snapshots(
            queries=snapshot_queries, instances=instances, sessions=sessions, histories=histories,
            engine=engine, archives=Archives(tmp_path / "snapshots"), locks=locks,
            drain=drain, clock=clock,
        )  # fmt: skip
        spares = Spares(
            spares=spare_queries, engine=engine, readiness=readiness,
            initial_configs=initial_configs, warm_up=WarmUp(control, programs, str(home)),
            state_transfers=state_transfers, snapshots=snapshots, gateway_of=gateway_of,
            egress=egress.default, freeze_after_s=freeze_after_s, clock=clock,
        )  # fmt: skip
        capacity = Capacity(
            engine=engine, instances=instances, spares=spares, spare_queries=spare_queries,
            eviction=eviction, max_running=max_running,
        )  # fmt: skip
        provisioner = Provisioner(
            instances=instances, organizations=organizations, engine=engine, readiness=readiness,
            initial_configs=initial_configs, spares=spares, capacity=capacity, snapshots=snapshots,
            concurrency=concurrency, egress=egress, events=events, faults=faults, metrics=metrics,
            clock=clock, group=tasks,
        )  # fmt: skip
        pool = Pool(
            size=pool_size, spares=spares, queries=spare_queries, provisioner=provisioner,
            capacity=capacity,
        )  # fmt: skip
        files = Files(processes, str(home), idle_timeout_s=TRANSFER_IDLE_TIMEOUT_S)
        live_config = LiveConfig(
            instances=instances, engine=engine, provisioner=provisioner, readiness=readiness,
            files=files, gateway_of=gateway_of, vision_models=vision_models, clock=clock,
        )  # fmt: skip
        reconciler = Reconciler(
            instances=instances, engine=engine, provisioner=provisioner, locks=locks,
            eviction=eviction, spares=spare_queries, drain=drain, snapshots=snapshots,
            egress=egress, events=events, interval_s=interval_s, paused_ttl_s=paused_ttl_s,
            clock=clock,
        )  # fmt: skip
        forks = Forks(
            snapshots=snapshots, instances=instances, organizations=organizations, engine=engine,
            provisioner=provisioner, pool=pool, locks=locks, drain=drain, egress=egress,
            events=events, clock=clock,
        )  # fmt: skip
        lifecycle = Lifecycle(
            instances=instances, organizations=organizations, engine=engine,
            provisioner=provisioner, pool=pool, readiness=readiness, live_config=live_config,
            config_validator=ConfigValidator(engine), locks=locks, drain=drain, clock=clock,
            egress=egress, events=events, scripts=scripts, recordings=recordings,
        )  # fmt: skip
        yield World(
            clock=clock, database=database, engine=engine, gateway=gateway, box=box,
            instances=instances, sessions=sessions, histories=histories,
            session_watch=session_watch, usage=UsageQueries(database),
            keys=keys,
            organizations=organizations,
            authentication=Authentication(keys, clock),
            subscriptions=Subscriptions(organizations, box, clock),
            model_failures=failures,
            locks=locks,
            config_locks=config_locks,
            readiness=readiness,
            provisioner=provisioner,
            spares=spares,
            spare_queries=spare_queries,
            capacity=capacity,
            pool=pool,
            eviction=eviction,
            reconciler=reconciler,
            lifecycle=lifecycle,
            config_editing=ConfigEditing(lifecycle, gateway_of),
            egress=EgressChanges(
                rule=egress, instances=instances, provisioner=provisioner, locks=locks,
                drain=drain, clock=clock,
            ),
            snapshot_queries=snapshot_queries,
            snapshots=snapshots,
            forks=forks,
            exports=Exports(
                snapshots, forks, made_by="chowder-local 1.2.3", openclaw_version="2026.9.6",
                clock=clock,
            ),
            conversations=Conversations(
                models=ModelResolver(
                    model_keys=model_keys, endpoints=ENDPOINTS, catalogue=Catalogue(forwarder),
                    recordings=recordings, relay_token_of=box.relay_token,
                    vision_models=vision_models,
                ),
                sessions=sessions,
                histories=Histories(
                    queries=histories, watch=session_watch,
                    rewinding=Rewinding(transcripts, control),
                ),
                engine=engine, reconciler=reconciler,
                failures=failures, gateway_of=gateway_of, clock=clock, shutdown=shutdown,
            ),
            reading=ConversationReader(
                instances=instances, sessions=sessions, locks=locks, watch=session_watch,
                transcripts=transcripts,
            ),
            processes=processes,
            home=home,
            programs=programs,
            beside=beside,
            skills=Skills(control, programs, gateway_of),
            channels=Channels(programs, gateway_of, tasks, connect_timeout_s=1.0),
            files=files,
            health=Health(
                _facts(clock), engine, instances, spare_queries, pool, provisioner, capacity,
                lambda: clock.now.timestamp(),
            ),
            shutdown=shutdown,
            scripts=scripts,
            recordings=recordings,
            events=events,
            faults=faults,
            metrics=metrics,
            tasks=tasks,
            organization_id=kitchen.organization_id,
            key=kitchen.key,
        )  # fmt: skip


def _facts(clock: Clock) -> ServerFacts:
    return ServerFacts(
        version="1.2.3",
        openclaw_version="2026.9.6",
        image="chowder-sandbox:1",
        base_url="http://127.0.0.1:2469",
        data_dir="/somewhere",
        pid=42,
        started_at=clock.now,
        relay_url=RELAY_URL,
    )
