"""The composition root: what is opened here, in one lifespan, is closed here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, TypedDict

from chowder_local import __version__
from chowder_local.accounts.authentication import Authentication
from chowder_local.accounts.bootstrap import ensure_default
from chowder_local.accounts.cost_report import CostReports
from chowder_local.accounts.credentials import ModelCredentials
from chowder_local.accounts.dashboard_sessions import DashboardSessions
from chowder_local.accounts.keys import Keys
from chowder_local.accounts.model_keys import ModelKeys
from chowder_local.accounts.organizations import Organizations
from chowder_local.accounts.subscriptions import Subscriptions
from chowder_local.api.openapi.page import documentation_routes
from chowder_local.api.routes import OPERATIONS, chat_completions_routes, routes
from chowder_local.app.parts import (
    Machine,
    egress_rule,
    gateway_at,
    listen_to_sandboxes,
    now,
    open_dashboard,
    open_engine,
    open_events,
    open_providers,
    read_scripts,
    server_facts,
    store_id_of,
    watch_disks,
)
from chowder_local.core.domain import RELAY_HOSTNAME
from chowder_local.core.fault_injection import Faults
from chowder_local.core.metrics import Metrics
from chowder_local.core.secrets import SecretBox
from chowder_local.core.shutdown import Shutdown
from chowder_local.core.tasks import owned_tasks
from chowder_local.dashboard.errors import page_of
from chowder_local.dashboard.routes import dashboard_routes
from chowder_local.dashboard.services import DashboardServices
from chowder_local.engine.image_recipe import openclaw_version
from chowder_local.engine.specs import HOME, STATE_DIR
from chowder_local.http import middleware
from chowder_local.instances.configuration.editing import ConfigEditing
from chowder_local.instances.configuration.initial_config import InitialConfigs
from chowder_local.instances.configuration.live_config import LiveConfig
from chowder_local.instances.configuration.validator import ConfigValidator
from chowder_local.instances.conversations.histories import Histories
from chowder_local.instances.conversations.idempotency import IdempotentMessages
from chowder_local.instances.conversations.model_resolver import ModelResolver
from chowder_local.instances.conversations.service import Conversations
from chowder_local.instances.conversations.session_names import SessionNames
from chowder_local.instances.conversations.transcripts import ConversationReader
from chowder_local.instances.conversations.vision_models import VisionModels
from chowder_local.instances.lifecycle.capacity import Capacity
from chowder_local.instances.lifecycle.drain import Drain
from chowder_local.instances.lifecycle.egress import EgressChanges
from chowder_local.instances.lifecycle.eviction import Eviction
from chowder_local.instances.lifecycle.locks import InstanceLocks
from chowder_local.instances.lifecycle.organization_reset import OrganizationReset
from chowder_local.instances.lifecycle.provisioner import Provisioner
from chowder_local.instances.lifecycle.readiness import Readiness
from chowder_local.instances.lifecycle.reconciler import Reconciler
from chowder_local.instances.lifecycle.service import Lifecycle
from chowder_local.instances.monitoring.health import Health
from chowder_local.instances.monitoring.usage_samples import UsageSamples
from chowder_local.instances.snapshots.archives import Archives
from chowder_local.instances.snapshots.exports import Exports
from chowder_local.instances.snapshots.forks import Forks
from chowder_local.instances.snapshots.service import Snapshots
from chowder_local.instances.warm_pool.pool import Pool
from chowder_local.instances.warm_pool.sandboxes import Spares
from chowder_local.openclaw.channels import Channels
from chowder_local.openclaw.config.locks import ConfigLocks
from chowder_local.openclaw.control import Control
from chowder_local.openclaw.files import Files
from chowder_local.openclaw.gateway import open_gateways
from chowder_local.openclaw.home.state_transfer import StateTransfers
from chowder_local.openclaw.rewinding import Rewinding
from chowder_local.openclaw.skills import Skills
from chowder_local.openclaw.transcripts.reader import Transcripts
from chowder_local.openclaw.warmup import WarmUp
from chowder_local.relay.call_log import Exchanges
from chowder_local.relay.catalogue import Catalogue
from chowder_local.relay.compaction import Compactions
from chowder_local.relay.failure_markers import FailureMarkers
from chowder_local.relay.local_model import LocalModel
from chowder_local.relay.metering import Metering
from chowder_local.relay.recordings.registry import RecordingRegistry
from chowder_local.relay.service import Relay
from chowder_local.relay.session_watch import SessionWatch
from chowder_local.store.conversation_histories import ConversationHistoryQueries
from chowder_local.store.dashboard_sessions import DashboardSessionQueries
from chowder_local.store.database import Database
from chowder_local.store.idempotent_answers import IdempotentAnswerQueries
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.keys import KeyQueries
from chowder_local.store.meta import MetaQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.snapshots import SnapshotQueries
from chowder_local.store.spares import SpareQueries
from chowder_local.store.usage import UsageQueries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

    from chowder_local.core.settings import Settings


class State(TypedDict):
    """What a request finds in `request.state`."""

    services: DashboardServices


def create_app(settings: Settings, machine: Machine) -> Starlette:
    """The API; its lifespan opens the store, the engine and the relay, lowest first.

    The lifespan raises ChowderError if one of them cannot be had.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            yield {"services": await _open(settings, machine, metrics, stack)}

    hosts = [settings.host, *settings.allowed_hosts]
    return api(settings.cors_origins, lifespan, metrics, hosts)


def api(
    cors_origins: Sequence[str],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[State]],
    metrics: Metrics,
    hosts: Sequence[str] = (),
) -> Starlette:
    """The HTTP side alone; requests find in their state what the lifespan yields."""
    return middleware.Api(
        routes=_every_route(),
        middleware=middleware.stack(cors_origins, metrics, hosts, page_of),
        lifespan=lifespan,
    )


@cache
def _every_route() -> tuple[BaseRoute, ...]:
    """Routes have no state, so that all applications of a process have the same."""
    return (
        *routes(),
        *chat_completions_routes(),
        *documentation_routes(OPERATIONS),
        *dashboard_routes(),
    )


async def _open(
    settings: Settings, machine: Machine, metrics: Metrics, stack: AsyncExitStack
) -> DashboardServices:
    box = await asyncio.to_thread(SecretBox.load, settings.secret_file)
    database = await stack.enter_async_context(Database.open(settings.database_file, box.encrypt))
    meta = MetaQueries(database)
    organizations = Organizations(OrganizationQueries(database), box, now)
    keys, sessions, usage, histories = (
        KeyQueries(database), SessionQueries(database), UsageQueries(database),
        ConversationHistoryQueries(database),
    )  # fmt: skip
    for writer in (keys.uses, sessions.uses, usage, histories):
        stack.push_async_callback(writer.write)
    authentication = Authentication(keys, now)
    default_organization_id = await ensure_default(
        organizations, settings.default_key_file, machine.model_keys, meta, authentication,
        offline=settings.offline, tier=settings.tier,
    )  # fmt: skip
    engine, networks = await open_engine(settings, machine, meta, stack)

    shutdown, model_failures, session_watch = Shutdown(), FailureMarkers(), SessionWatch()
    events = open_events(shutdown, stack)
    instances, spare_queries, faults = (
        InstanceQueries(database, box, events), SpareQueries(database, events),
        Faults(events, now),
    )  # fmt: skip
    scripts, recordings, exchanges, session_names = (
        await read_scripts(settings),
        await RecordingRegistry.open(settings.record, settings.replay),
        Exchanges(), SessionNames(sessions),
    )  # fmt: skip
    endpoints, forwarder, model_keys = (
        machine.endpoints, await open_providers(settings, stack),
        ModelKeys(organizations, machine.endpoints, default_organization_id),
    )  # fmt: skip
    relay = Relay(
        resolver=ModelCredentials(box, instances, spare_queries, model_keys),
        base_urls=settings.model_base_urls, endpoints=endpoints, forwarder=forwarder,
        failures=model_failures, events=events, metrics=metrics, exchanges=exchanges,
        metering=Metering(usage, now),
        local_model=LocalModel(scripts, recordings, session_names.of),
        session_watch=session_watch, recorder=recordings.recorder,
        compactions=Compactions(settings.compaction_timeout_s, model_failures),
    )  # fmt: skip
    relay_port = await listen_to_sandboxes(relay, networks, meta, stack)
    engine.relay_is_at(relay_port)
    relay_url = f"http://{RELAY_HOSTNAME}:{relay_port}"

    gateway_of = partial(
        gateway_at, await stack.enter_async_context(open_gateways()), box, ConfigLocks()
    )
    group = await stack.enter_async_context(owned_tasks())
    readiness, locks = (
        Readiness(engine, gateway_of, boot_timeout_s=settings.boot_timeout_s), InstanceLocks(),
    )  # fmt: skip
    control, transcripts, initial_configs, eviction = (
        Control(engine, box.gateway_token), Transcripts(engine, engine.beside, STATE_DIR),
        InitialConfigs(box, relay_url), Eviction(instances, engine, locks, events),
    )  # fmt: skip
    egress, state_transfers = (
        egress_rule(settings, networks),
        await stack.enter_async_context(StateTransfers(engine, HOME)),
    )  # fmt: skip
    drain, snapshot_queries = (
        Drain(gateway_of, settings.drain_timeout_s),
        SnapshotQueries(database, box, events),
    )
    snapshots = Snapshots(
        queries=snapshot_queries, instances=instances, sessions=sessions, histories=histories,
        engine=engine, archives=Archives(settings.snapshots_dir), locks=locks, drain=drain,
        clock=now,
    )  # fmt: skip
    spares = Spares(
        spares=spare_queries, engine=engine, readiness=readiness, initial_configs=initial_configs,
        warm_up=WarmUp(control, engine, HOME), state_transfers=state_transfers, snapshots=snapshots,
        gateway_of=gateway_of, egress=settings.egress, freeze_after_s=settings.freeze_after_s,
        clock=now,
    )  # fmt: skip
    capacity = Capacity(
        engine=engine, instances=instances, spares=spares, spare_queries=spare_queries,
        eviction=eviction, max_running=settings.max_running,
    )  # fmt: skip
    provisioner = Provisioner(
        instances=instances, organizations=organizations, engine=engine, readiness=readiness,
        initial_configs=initial_configs, spares=spares, capacity=capacity, snapshots=snapshots,
        concurrency=settings.boot_concurrency, egress=egress,
        events=events, faults=faults, metrics=metrics, clock=now, group=group,
    )  # fmt: skip
    pool, files, vision_models = (
        Pool(
            size=settings.warm_pool_size, spares=spares, queries=spare_queries,
            provisioner=provisioner, capacity=capacity,
        ),
        Files(engine, STATE_DIR, idle_timeout_s=settings.transfer_idle_timeout_s), VisionModels(),
    )  # fmt: skip
    live_config = LiveConfig(
        instances=instances, engine=engine, provisioner=provisioner, readiness=readiness,
        files=files, gateway_of=gateway_of, vision_models=vision_models, clock=now,
    )  # fmt: skip
    reconciler = Reconciler(
        instances=instances, engine=engine, provisioner=provisioner, locks=locks, eviction=eviction,
        spares=spare_queries, drain=drain, snapshots=snapshots, egress=egress,
        events=events, interval_s=settings.reconcile_interval_s,
        paused_ttl_s=settings.paused_ttl_s, clock=now,
    )  # fmt: skip
    # Once before the first request, so that no list ever shows what a crash left behind.
    await reconciler.agree()
    group.create_task(reconciler.run(), name="reconciler")
    group.create_task(pool.run(), name="pool")
    watch_disks(settings, instances, engine, locks, group)
    forks = Forks(
        snapshots=snapshots, instances=instances, organizations=organizations, engine=engine,
        provisioner=provisioner, pool=pool, locks=locks, drain=drain, egress=egress, events=events,
        clock=now,
    )  # fmt: skip
    scoped_keys, lifecycle = (
        Keys(keys, instances, now),
        Lifecycle(
            instances=instances, organizations=organizations, engine=engine,
            provisioner=provisioner, pool=pool, readiness=readiness, live_config=live_config,
            config_validator=ConfigValidator(engine), locks=locks, drain=drain, clock=now,
            egress=egress, events=events, scripts=scripts, recordings=recordings,
        ),
    )  # fmt: skip
    usage_samples, health = (
        UsageSamples(engine, instances),
        Health(
            server_facts(settings, machine, relay_url), engine, instances, spare_queries, pool,
            provisioner, capacity,
        ),
    )  # fmt: skip
    idempotency = IdempotentMessages(IdempotentAnswerQueries(database, box), now)
    for upkeep in (
        keys.uses.run, sessions.uses.run, usage.run, histories.run, usage_samples.run,
        idempotency.run,
    ):  # fmt: skip
        group.create_task(upkeep(), name="upkeep")
    return DashboardServices(
        organizations=organizations,
        authentication=authentication,
        keys=scoped_keys,
        subscriptions=Subscriptions(organizations, box, now),
        cost_reports=CostReports(usage),
        lifecycle=lifecycle,
        egress=EgressChanges(
            rule=egress, instances=instances, provisioner=provisioner, locks=locks, drain=drain,
            clock=now,
        ),
        snapshots=snapshots,
        forks=forks,
        exports=Exports(
            snapshots, forks, made_by=f"chowder-local {__version__}",
            openclaw_version=openclaw_version(), clock=now,
        ),
        provisioner=provisioner,
        conversations=Conversations(
            models=ModelResolver(
                model_keys=model_keys, endpoints=endpoints, catalogue=Catalogue(forwarder),
                recordings=recordings, relay_token_of=box.relay_token, vision_models=vision_models,
            ),
            sessions=sessions,
            histories=Histories(
                queries=histories, watch=session_watch, rewinding=Rewinding(transcripts, control),
            ),
            engine=engine, reconciler=reconciler, failures=model_failures,
            gateway_of=gateway_of, clock=now, shutdown=shutdown,
        ),
        idempotency=idempotency,
        reading=ConversationReader(
            instances=instances, sessions=sessions, locks=locks, watch=session_watch,
            transcripts=transcripts,
        ),
        files=files,
        skills=Skills(control, engine, gateway_of),
        channels=Channels(engine, gateway_of, group),
        config_editing=ConfigEditing(lifecycle, gateway_of),
        engine=engine,
        health=health,
        scripts=scripts,
        recordings=recordings,
        exchanges=exchanges,
        session_names=session_names,
        events=events,
        faults=faults,
        organization_reset=OrganizationReset(
            instances=instances, lifecycle=lifecycle, keys=scoped_keys, faults=faults,
            scripts=scripts, snapshots=snapshots,
        ),
        metrics=metrics,
        dashboard=open_dashboard(
            settings, partial(engine.facts, machine.engine_address), health, usage_samples,
            DashboardSessions(
                authentication=authentication, keys=keys,
                sessions=DashboardSessionQueries(database), box=box,
                store_id=await store_id_of(meta), clock=now,
            ),
        ),
        box=box,
        shutdown=shutdown,
        max_body_bytes=settings.max_body_bytes,
    )  # fmt: skip
