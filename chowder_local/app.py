"""The composition root: what is opened here, in one lifespan, is closed here."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from chowder_local import __version__
from chowder_local.accounts.authentication import Authentication
from chowder_local.accounts.default import ensure_default
from chowder_local.accounts.keys import Keys
from chowder_local.accounts.lending import Lending
from chowder_local.accounts.organizations import Organizations
from chowder_local.accounts.subscriptions import Subscriptions
from chowder_local.domain import RELAY_HOSTNAME, RELAY_PORT
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import openclaw_version
from chowder_local.engine.specs import STATE_DIR, Limits
from chowder_local.errors.process import PortTaken, RelayPortTaken
from chowder_local.events import Events
from chowder_local.instances.boots import Boots
from chowder_local.instances.config_judge import ConfigJudge
from chowder_local.instances.conversations import Conversations
from chowder_local.instances.disk import DiskWatch
from chowder_local.instances.egress import EgressChanges, EgressRule
from chowder_local.instances.health import Health, ServerFacts
from chowder_local.instances.lifecycle import Lifecycle
from chowder_local.instances.live_config import LiveConfig
from chowder_local.instances.locks import InstanceLocks
from chowder_local.instances.pool import Pool
from chowder_local.instances.readiness import Readiness
from chowder_local.instances.reconcile import Reconciler
from chowder_local.instances.releases import Releases
from chowder_local.instances.room import Room
from chowder_local.instances.seeds import Seeds
from chowder_local.instances.session_names import SessionNames
from chowder_local.instances.spares import Spares
from chowder_local.instances.suspensions import Suspensions
from chowder_local.metrics import Metrics
from chowder_local.openclaw.channels import Channels
from chowder_local.openclaw.control import Control
from chowder_local.openclaw.files import Files
from chowder_local.openclaw.gateway import Gateway, open_gateways
from chowder_local.openclaw.skills import Skills
from chowder_local.openclaw.warmup import WarmUp
from chowder_local.relay.exchanges import Exchanges
from chowder_local.relay.failures import FailureLog
from chowder_local.relay.local_model import LocalModel
from chowder_local.relay.replies import files as reply_files
from chowder_local.relay.replies.scripts import Scripts
from chowder_local.relay.service import Relay
from chowder_local.stopping import Stopping
from chowder_local.store.database import Database
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.keys import KeyQueries
from chowder_local.store.meta import MetaQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.spares import SpareQueries
from chowder_local.tasks import owned_tasks
from chowder_local.tokens import Vault, write_private
from chowder_local.upstream.forward import Forwarder, open_client
from chowder_local.web import middleware
from chowder_local.web.connections import bounds_of_this_process
from chowder_local.web.listener import bound_socket, listening
from chowder_local.web.openapi.page import documentation_routes
from chowder_local.web.relay import create_relay_app
from chowder_local.web.routes import OPERATIONS, routes
from chowder_local.web.state import Services

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.applications import Starlette

    from chowder_local.domain import ModelProvider, SandboxId
    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.networks import SandboxNetworks
    from chowder_local.settings import Settings

# When the relay ends, no client waits for an agent any more; agents that were left hang up by
# themselves, and what a messenger's turn asks of a model may take for ever.
RELAY_GRACE_S = 1
DISK_INTERVAL_S = 60.0


class State(TypedDict):
    """What a request finds in `request.state`."""

    services: Services


@dataclass(frozen=True)
class Machine:
    """What the machine, rather than the operator, says about a server."""

    engine_address: EngineAddress
    image: str
    model_keys: Mapping[ModelProvider, str]
    ca_bundle: bytes | None = None


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
        routes=[*routes(), *documentation_routes(OPERATIONS)],
        middleware=middleware.stack(cors_origins, metrics, hosts),
        lifespan=lifespan,
    )


async def _open(
    settings: Settings, machine: Machine, metrics: Metrics, stack: AsyncExitStack
) -> Services:
    vault = await asyncio.to_thread(Vault.load, settings.secret_file)
    database = await stack.enter_async_context(Database.open(settings.database_file, vault.encrypt))
    meta = MetaQueries(database)
    organizations = Organizations(OrganizationQueries(database), vault, _now)
    keys = KeyQueries(database)
    stack.push_async_callback(keys.uses.write)
    sessions = SessionQueries(database)
    stack.push_async_callback(sessions.uses.write)
    authentication = Authentication(keys, _now)
    await ensure_default(
        organizations, settings.default_key_file, machine.model_keys, meta, authentication,
        offline=settings.offline, tier=settings.tier,
    )  # fmt: skip
    engine, networks = await _engine(settings, machine, meta, stack)

    stopping = Stopping()
    events = _events(stopping, stack)
    instances, spare_queries = (
        InstanceQueries(database, vault, events), SpareQueries(database, events),
    )  # fmt: skip
    scripts, model_failures, exchanges, session_names = (
        await _scripts(settings), FailureLog(), Exchanges(), SessionNames(sessions),
    )  # fmt: skip
    relay = Relay(
        lender=Lending(vault, instances, spare_queries, organizations),
        base_urls=settings.model_base_urls,
        forwarder=await _providers(settings, stack),
        failures=model_failures, events=events, metrics=metrics, exchanges=exchanges,
        local_model=LocalModel(scripts, session_names.of),
    )  # fmt: skip
    relay_port = await _listen(relay, networks, meta, stack)
    engine.relay_is_at(relay_port)
    relay_url = f"http://{RELAY_HOSTNAME}:{relay_port}"

    gateway_of = partial(_gateway, await stack.enter_async_context(open_gateways()), vault)
    control = Control(engine, vault.gateway_token)
    group = await stack.enter_async_context(owned_tasks())
    readiness = Readiness(engine, gateway_of, boot_timeout_s=settings.boot_timeout_s)
    locks = InstanceLocks()
    seeds, releases = Seeds(vault, relay_url), Releases(instances, engine, locks, events)
    egress = _egress(settings, networks)
    spares = Spares(
        spares=spare_queries, engine=engine, readiness=readiness, seeds=seeds,
        warm_up=WarmUp(control), gateway_of=gateway_of, egress=settings.egress, clock=_now,
    )  # fmt: skip
    room = Room(
        engine=engine, instances=instances, spares=spares, spare_queries=spare_queries,
        releases=releases, max_awake=settings.max_awake,
    )  # fmt: skip
    boots = Boots(
        instances=instances, organizations=organizations, engine=engine, readiness=readiness,
        seeds=seeds, spares=spares, room=room, concurrency=settings.boot_concurrency, egress=egress,
        events=events, metrics=metrics, clock=_now, group=group,
    )  # fmt: skip
    pool = Pool(
        size=settings.pool_size, spares=spares, queries=spare_queries, boots=boots, room=room
    )
    files = Files(engine, STATE_DIR, idle_timeout_s=settings.transfer_timeout_s)
    live_config = LiveConfig(
        instances=instances, engine=engine, boots=boots, readiness=readiness, files=files,
        gateway_of=gateway_of, clock=_now,
    )  # fmt: skip
    suspensions = Suspensions(gateway_of, settings.suspend_timeout_s)
    reconciler = Reconciler(
        instances=instances, engine=engine, boots=boots, locks=locks, releases=releases,
        spares=spare_queries, suspensions=suspensions, egress=egress, events=events,
        interval_s=settings.reconcile_interval_s,
        release_after_s=settings.release_after_s, clock=_now,
    )  # fmt: skip
    # Once before the first request, so that no list ever shows what a crash left behind.
    await reconciler.agree()
    group.create_task(reconciler.run(), name="reconciler")
    group.create_task(pool.run(), name="pool")
    _watch_disks(settings, instances, engine, locks, group)
    group.create_task(keys.uses.run(), name="key uses")
    group.create_task(sessions.uses.run(), name="session uses")
    return Services(
        organizations=organizations,
        authentication=authentication,
        keys=Keys(keys, instances, _now),
        subscriptions=Subscriptions(organizations, vault, _now),
        lifecycle=Lifecycle(
            instances=instances, organizations=organizations, engine=engine, boots=boots,
            pool=pool, readiness=readiness, live_config=live_config,
            config_judge=ConfigJudge(engine), locks=locks, suspensions=suspensions, clock=_now,
            egress=egress, events=events, scripts=scripts,
        ),
        egress=EgressChanges(
            rule=egress, instances=instances, boots=boots, locks=locks, suspensions=suspensions,
            clock=_now,
        ),
        boots=boots,
        conversations=Conversations(
            organizations=organizations, sessions=sessions,
            reconciler=reconciler, failures=model_failures, gateway_of=gateway_of, clock=_now,
            stopping=stopping,
        ),
        files=files,
        skills=Skills(control, engine, gateway_of),
        channels=Channels(engine, gateway_of, group),
        engine=engine,
        health=Health(
            _facts(settings, machine, relay_url), engine, instances, spare_queries, pool, boots,
            room,
        ),
        scripts=scripts,
        exchanges=exchanges,
        session_names=session_names,
        events=events,
        metrics=metrics,
        vault=vault,
        stopping=stopping,
        max_body_bytes=settings.max_body_bytes,
    )  # fmt: skip


async def _providers(settings: Settings, stack: AsyncExitStack) -> Forwarder:
    """The way to the model providers."""
    return Forwarder(
        await stack.enter_async_context(open_client(ca_bundle=settings.ca_bundle)),
        first_byte_timeout_s=settings.model_first_byte_timeout_s,
        idle_timeout_s=settings.model_idle_timeout_s,
    )


async def _scripts(settings: Settings) -> Scripts:
    """Replies for the offline model, of the file that the server is started with."""
    if settings.replies is None:
        return Scripts()
    return Scripts(await asyncio.to_thread(reply_files.read, settings.replies))


def _egress(settings: Settings, networks: SandboxNetworks) -> EgressRule:
    rule = EgressRule(settings.egress, networks.problem)
    # Who wants nobody out is not to find out that everybody was.
    rule.check(settings.egress)
    return rule


def _watch_disks(
    settings: Settings,
    instances: InstanceQueries,
    engine: DockerEngine,
    locks: InstanceLocks,
    group: asyncio.TaskGroup,
) -> None:
    if settings.disk_limit_mb is not None:
        watch = DiskWatch(
            instances=instances, engine=engine, locks=locks, limit_mb=settings.disk_limit_mb,
            interval_s=DISK_INTERVAL_S, clock=_now,
        )  # fmt: skip
        group.create_task(watch.run(), name="disk watch")


def _events(stopping: Stopping, stack: AsyncExitStack) -> Events:
    events = Events()
    stack.callback(events.close)
    # Who follows them would otherwise hold up the end for as long as it is allowed to.
    stack.enter_context(stopping.calling(events.close))
    return events


async def _engine(
    settings: Settings, machine: Machine, meta: MetaQueries, stack: AsyncExitStack
) -> tuple[DockerEngine, SandboxNetworks]:
    """The engine, ready to boot sandboxes of this data directory."""
    store_id = await meta.put_if_absent("store_id", secrets.token_hex(6))
    await asyncio.to_thread(write_private, settings.store_file, store_id.encode())

    engine = await stack.enter_async_context(
        DockerEngine.connect(
            machine.engine_address,
            store_id,
            timeout_s=settings.engine_timeout_s,
            thread_count=settings.engine_threads,
        )
    )
    limits = Limits(settings.memory_limit_mb, settings.cpu_limit, settings.pids_limit)
    return engine, await engine.prepare(
        machine.image, limits, machine.ca_bundle, settings.sandbox_environment
    )


async def _listen(
    relay: Relay, networks: SandboxNetworks, meta: MetaQueries, stack: AsyncExitStack
) -> int:
    """Starts the relay where sandboxes find it; the port is the same at every start."""
    known = await meta.get("relay_port")
    host, *others = networks.relay_binds
    bound = [_relay_socket(host, None if known is None else int(known))]
    stack.callback(bound[0].close)
    port: int = bound[0].getsockname()[1]
    for other in others:
        # The same: which network a sandbox is in changes, and what is written in it does not.
        bound.append(_relay_socket(other, port))
        stack.callback(bound[-1].close)
    await meta.put("relay_port", str(port))
    app, bounds = create_relay_app(relay), bounds_of_this_process().for_sandboxes()
    await stack.enter_async_context(listening(app, *bound, grace_s=RELAY_GRACE_S, bounds=bounds))
    return port


def _relay_socket(host: str, known_port: int | None) -> socket.socket:
    try:
        return bound_socket(host, known_port or RELAY_PORT)
    except PortTaken:
        if known_port is not None:
            raise RelayPortTaken(host, known_port) from None
        return bound_socket(host, 0)


def _gateway(forwarder: Forwarder, vault: Vault, sandbox_id: SandboxId, url: str) -> Gateway:
    return Gateway(forwarder, url, vault.gateway_token(sandbox_id))


def _facts(settings: Settings, machine: Machine, relay_url: str) -> ServerFacts:
    return ServerFacts(
        version=__version__,
        openclaw_version=openclaw_version(),
        image=machine.image,
        base_url=settings.root_url,
        data_dir=str(settings.data_dir),
        pid=os.getpid(),
        started_at=_now(),
        relay_url=relay_url,
    )


def _now() -> datetime:
    return datetime.now(UTC)
