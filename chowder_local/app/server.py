"""The server's lifespan, which opens and closes all its resources."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from chowder_local import __version__
from chowder_local.accounts.bootstrap import default_organization_id, ensure_default
from chowder_local.app.relay_app import bind_relay, serve_relay
from chowder_local.core.data_dir import write_private
from chowder_local.core.domain import RELAY_HOSTNAME, is_release
from chowder_local.core.events import Events
from chowder_local.core.metrics import Metrics
from chowder_local.core.secrets import SecretBox
from chowder_local.core.tasks import Shutdown, logging_errors, owned_tasks
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import expected_tag, openclaw_version
from chowder_local.engine.specs import HOME, STATE_DIR, Limits, SandboxDefaults
from chowder_local.features.feature import chosen_features, open_features
from chowder_local.instances.lifecycle.agents import EgressRule
from chowder_local.instances.monitoring.health import ServerFacts
from chowder_local.instances.monitoring.usage import DiskWatch
from chowder_local.openclaw.file_programs import FilePrograms
from chowder_local.openclaw.gateway import open_gateways
from chowder_local.openclaw.home.state_transfer import StateTransfers
from chowder_local.relay.recordings import RecordingRegistry
from chowder_local.relay.scripts import files
from chowder_local.relay.scripts.registry import ScriptRegistry
from chowder_local.services import Services, now
from chowder_local.store.database import Database, MetaQueries
from chowder_local.upstream.forward import Forwarder, open_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from chowder_local.core.domain import ModelProvider
    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.core.settings import Settings
    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.networks import SandboxNetworks
    from chowder_local.engine.swarm.engine import SwarmEngine
    from chowder_local.instances.monitoring.trace_export import TraceExport


VERSIONS_KEPT = 64
ENGINE_THREADS = 8
"""The most calls to the engine at the same time."""


@dataclass(frozen=True)
class Machine:
    """What a server takes from the machine and its environment rather than from its settings."""

    engine_address: EngineAddress
    image: str
    model_keys: Mapping[ModelProvider, str]
    endpoints: Mapping[str, Endpoint]
    ca_bundle: bytes | None = None


@asynccontextmanager
async def open_services(settings: Settings, machine: Machine) -> AsyncIterator[Services]:
    """Opens the store, the engine and the relay, in this order, and begins the background tasks.

    Raises ChowderError if one of them cannot be opened.
    """
    async with AsyncExitStack() as stack:
        yield await _open(settings, machine, stack)


async def _open(settings: Settings, machine: Machine, stack: AsyncExitStack) -> Services:
    # Before anything is opened, because another package's feature may be broken.
    features = chosen_features(settings.features_off)
    secret_box = await asyncio.to_thread(SecretBox.load, settings.secret_file)
    database = await stack.enter_async_context(Database.open(settings.database_file))
    meta = MetaQueries(database)
    store_id = await _store_id(settings, meta)
    engine, networks = await open_engine(settings, machine, store_id, stack)
    relay_sockets, relay_port = await bind_relay(networks.relay_binds, meta, stack)
    await engine.open_relay(relay_port)
    relay_url = f"http://{RELAY_HOSTNAME}:{relay_port}"
    egress_rule = EgressRule(settings.egress, networks.problem)
    # Fail at the start, instead of running agents with egress against the setting.
    egress_rule.check(settings.egress)
    shutdown = Shutdown()
    # Closed after the tasks and gateways, which use what it holds.
    last = await stack.enter_async_context(AsyncExitStack())

    services = Services(
        settings=settings,
        endpoints=machine.endpoints,
        database=database,
        secret_box=secret_box,
        events=open_events(shutdown, stack),
        metrics=Metrics(),
        shutdown=shutdown,
        store_id=store_id,
        default_organization_id=await default_organization_id(meta),
        providers=await _open_providers(settings, stack),
        scripts=await _read_scripts(settings),
        recordings=await RecordingRegistry.open(settings.record, settings.replay),
        engine=engine,
        exec=engine,
        file_programs=await stack.enter_async_context(FilePrograms(engine).open()),
        exec_beside=engine.volume_jobs,
        home=HOME,
        state_dir=STATE_DIR,
        gateways=await stack.enter_async_context(open_gateways()),
        state_transfers=await stack.enter_async_context(
            StateTransfers(engine, HOME, is_alone=True)
        ),
        egress_rule=egress_rule,
        relay_url=relay_url,
        server_facts=_server_facts(settings, machine, relay_url, [each.name for each in features]),
        engine_facts=partial(engine.facts, machine.engine_address),
        tasks=await stack.enter_async_context(owned_tasks()),
    )
    if settings.otlp_endpoint:
        export = _export_traces(settings.otlp_endpoint, services)
        last.push_async_callback(asyncio.to_thread, export.close)
    last.push_async_callback(partial(_write_back, services))
    await ensure_default(
        services.organizations,
        settings.default_key_file,
        machine.model_keys,
        meta,
        services.authentication,
        offline=settings.offline,
        tier=settings.tier,
    )
    await stack.enter_async_context(open_features(services, features))
    # Closed first: the model calls that it cuts off end turns, which begins tasks.
    await stack.enter_async_context(
        serve_relay(
            services.relay,
            relay_sockets,
            services.gateway_events,
            services.feature_hooks.relay_routes,
        )
    )
    await begin(services)
    return services


async def begin(services: Services) -> None:
    """Reconciles the store with the engine, and starts the background tasks."""
    settings = services.settings
    # Before the first request, so that no list shows what a crash left behind.
    await services.reconciler.reconcile()
    loops: dict[str, Callable[[], Coroutine[None, None, None]]] = {
        "resuming": partial(_resume, services),
        "reconciler": services.reconciler.run,
        "warm pool": services.pool.run,
        "hibernation": services.hibernation.run,
        "use of keys": services.key_queries.uses.run,
        "use of sessions": services.sessions.uses.run,
        "usage": services.usage.run,
        "histories": services.histories.run,
        "usage samples": services.usage_samples.run,
        "idempotency": services.idempotency.run,
    }
    if settings.snapshot_interval_s:
        loops["snapshots at intervals"] = services.interval_snapshots.run
        loops["recovery"] = services.recovery.run
    if settings.disk_limit_mb is not None:
        loops["disk quota"] = DiskWatch(services.agents, settings.disk_limit_mb).run
    await services.due_jobs.begin()
    for begin_feature in services.feature_hooks.on_start:
        await begin_feature()
    for name, run in loops.items():
        services.tasks.create_task(run(), name=name)


async def _resume(services: Services) -> None:
    with logging_errors("resuming"):
        await services.agents.end_leftover_drains()


async def _write_back(services: Services) -> None:
    """Writes buffered rows before the database is closed."""
    for queries in (
        services.key_queries.uses, services.sessions.uses, services.usage, services.histories
    ):  # fmt: skip
        await queries.write()


def open_events(shutdown: Shutdown, stack: AsyncExitStack) -> Events:
    """Events that can be followed until the server stops."""
    events = Events()
    stack.callback(events.close)
    # Open event streams would delay the server's end for the whole grace period.
    stack.enter_context(shutdown.on_shutdown(events.close))
    return events


async def _store_id(settings: Settings, meta: MetaQueries) -> str:
    """The data directory's id, on the engine and in browsers; created at the first start."""
    store_id = await meta.put_if_absent("store_id", secrets.token_hex(6))
    await asyncio.to_thread(write_private, settings.store_file, store_id.encode())
    return store_id


async def open_engine(
    settings: Settings, machine: Machine, store_id: str, stack: AsyncExitStack
) -> tuple[DockerEngine | SwarmEngine, SandboxNetworks]:
    """The engine, ready to boot sandboxes of this data directory."""
    engine = await stack.enter_async_context(_connect(settings, machine, store_id))
    return engine, await engine.prepare(_sandbox_defaults(settings, machine))


def _connect(
    settings: Settings, machine: Machine, store_id: str
) -> AbstractAsyncContextManager[DockerEngine | SwarmEngine]:
    address, timeout_s = machine.engine_address, settings.engine_timeout_s
    if settings.swarm is None:
        return DockerEngine.connect(
            address, store_id, timeout_s=timeout_s, thread_count=ENGINE_THREADS
        )
    # Most servers have one machine.
    from chowder_local.engine.swarm.engine import SwarmEngine
    from chowder_local.engine.swarm.nodes import DeployedStack
    from chowder_local.engine.swarm.tunnel import read_secret

    deployed = DeployedStack(settings.swarm, read_secret())
    return SwarmEngine.connect(
        address, store_id, deployed, timeout_s=timeout_s, thread_count=ENGINE_THREADS
    )


def _sandbox_defaults(settings: Settings, machine: Machine) -> SandboxDefaults:
    return SandboxDefaults(
        machine.image,
        Limits(settings.memory_limit_mb, settings.cpu_limit, settings.pids_limit),
        machine.ca_bundle,
        settings.sandbox_environment,
        # The image's tag is the digest of a megabyte, so it is computed once for each release.
        lru_cache(VERSIONS_KEPT)(partial(_image_of, settings, machine)),
        settings.container_runtime,
    )


def _image_of(settings: Settings, machine: Machine, version: str) -> str:
    """The tag of the image of an `openclaw_version`."""
    is_own = not is_release(version) or version == openclaw_version(settings)
    return machine.image if is_own else expected_tag(settings, version)


async def _open_providers(settings: Settings, stack: AsyncExitStack) -> Forwarder:
    return Forwarder(
        await stack.enter_async_context(open_client(ca_bundle=settings.ca_bundle)),
        first_byte_timeout_s=settings.model_first_byte_timeout_s,
        idle_timeout_s=settings.model_idle_timeout_s,
    )


def _export_traces(endpoint: str, services: Services) -> TraceExport:
    # Most servers export nothing.
    from chowder_local.instances.monitoring.trace_export import TraceExport

    export = TraceExport.open(
        endpoint,
        services.call_log,
        services.session_names.find,
        has_content=services.settings.otlp_content,
    )
    services.traces.export = export.turn
    return export


async def _read_scripts(settings: Settings) -> ScriptRegistry:
    """The offline model's reply scripts, from the file in the settings."""
    if settings.replies is None:
        return ScriptRegistry()
    return ScriptRegistry(await asyncio.to_thread(files.read_file, settings.replies))


def _server_facts(
    settings: Settings, machine: Machine, relay_url: str, features: Sequence[str]
) -> ServerFacts:
    return ServerFacts(
        version=__version__,
        openclaw_version=openclaw_version(settings),
        image=machine.image,
        base_url=settings.client_url,
        data_dir=str(settings.data_dir),
        pid=os.getpid(),
        started_at=now(),
        relay_url=relay_url,
        features=features,
    )
