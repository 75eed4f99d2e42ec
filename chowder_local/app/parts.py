"""The parts that it takes more than a line to open, for the composition root."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chowder_local import __version__
from chowder_local.app.relay_app import create_relay_app
from chowder_local.core.domain import RELAY_PORT
from chowder_local.core.errors.process import PortTaken, RelayPortTaken
from chowder_local.core.events import Events
from chowder_local.core.program_name import program
from chowder_local.core.secrets import SecretBox, write_private
from chowder_local.dashboard.assets import Assets
from chowder_local.dashboard.chat_stream import ChatStreams
from chowder_local.dashboard.rendering import Rendering
from chowder_local.dashboard.services import Dashboard
from chowder_local.diagnostics.server import ServerDiagnosis
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import openclaw_version
from chowder_local.engine.specs import Limits
from chowder_local.http.connections import SandboxConnection
from chowder_local.http.listener import bound_socket, listening
from chowder_local.instances.lifecycle.egress import EgressRule
from chowder_local.instances.monitoring.disk_quota import DiskWatch
from chowder_local.instances.monitoring.health import ServerFacts
from chowder_local.openclaw.gateway import Gateway
from chowder_local.relay.scripts import files as reply_files
from chowder_local.relay.scripts.registry import ScriptRegistry
from chowder_local.upstream.forward import Forwarder, open_client

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AsyncExitStack

    from chowder_local.accounts.dashboard_sessions import DashboardSessions
    from chowder_local.core.domain import ModelProvider, SandboxId
    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.core.settings import Settings
    from chowder_local.core.shutdown import Shutdown
    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.engine.networks import SandboxNetworks
    from chowder_local.instances.lifecycle.locks import InstanceLocks
    from chowder_local.instances.monitoring.health import Health
    from chowder_local.instances.monitoring.usage_samples import UsageSamples
    from chowder_local.openclaw.config.locks import ConfigLocks
    from chowder_local.relay.service import Relay
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.meta import MetaQueries

# When the relay ends, no client waits for an agent any more; agents that were left hang up by
# themselves, and what a messenger's turn asks of a model may take for ever.
RELAY_GRACE_S = 1


@dataclass(frozen=True)
class Machine:
    """What the machine, rather than the operator, says about a server."""

    engine_address: EngineAddress
    image: str
    model_keys: Mapping[ModelProvider, str]
    endpoints: Mapping[str, Endpoint]
    ca_bundle: bytes | None = None


def now() -> datetime:
    """The clock of all parts."""
    return datetime.now(UTC)


async def open_providers(settings: Settings, stack: AsyncExitStack) -> Forwarder:
    """The way to the model providers."""
    return Forwarder(
        await stack.enter_async_context(open_client(ca_bundle=settings.ca_bundle)),
        first_byte_timeout_s=settings.model_first_byte_timeout_s,
        idle_timeout_s=settings.model_idle_timeout_s,
    )


async def read_scripts(settings: Settings) -> ScriptRegistry:
    """Replies for the offline model, of the file that the server is started with."""
    if settings.replies is None:
        return ScriptRegistry()
    return ScriptRegistry(await asyncio.to_thread(reply_files.read, settings.replies))


def egress_rule(settings: Settings, networks: SandboxNetworks) -> EgressRule:
    """Who may reach the outside. Raises EgressUnavailable."""
    rule = EgressRule(settings.egress, networks.problem)
    # Who wants nobody out is not to find out that everybody was.
    rule.check(settings.egress)
    return rule


def watch_disks(
    settings: Settings,
    instances: InstanceQueries,
    engine: DockerEngine,
    locks: InstanceLocks,
    group: asyncio.TaskGroup,
) -> None:
    """Keeps an eye on the agents' disks, if there is a limit."""
    if settings.disk_limit_mb is not None:
        watch = DiskWatch(
            instances=instances, engine=engine, locks=locks, limit_mb=settings.disk_limit_mb,
            interval_s=settings.disk_interval_s, clock=now,
        )  # fmt: skip
        group.create_task(watch.run(), name="disk watch")


def open_events(shutdown: Shutdown, stack: AsyncExitStack) -> Events:
    """What is told of what happens, until the server stops."""
    events = Events()
    stack.callback(events.close)
    # Who follows them would otherwise hold up the end for as long as it is allowed to.
    stack.enter_context(shutdown.on_shutdown(events.close))
    return events


async def store_id_of(meta: MetaQueries) -> str:
    """What tells apart what different data directories have on an engine, or in a browser."""
    return await meta.put_if_absent("store_id", secrets.token_hex(6))


async def open_engine(
    settings: Settings, machine: Machine, meta: MetaQueries, stack: AsyncExitStack
) -> tuple[DockerEngine, SandboxNetworks]:
    """The engine, ready to boot sandboxes of this data directory."""
    store_id = await store_id_of(meta)
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


async def listen_to_sandboxes(
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
    serving = listening(
        create_relay_app(relay), *bound, grace_s=RELAY_GRACE_S, protocol=SandboxConnection
    )
    await stack.enter_async_context(serving)
    return port


def _relay_socket(host: str, known_port: int | None) -> socket.socket:
    try:
        return bound_socket(host, known_port or RELAY_PORT)
    except PortTaken:
        if known_port is not None:
            raise RelayPortTaken(host, known_port) from None
        return bound_socket(host, 0)


def gateway_at(
    forwarder: Forwarder, box: SecretBox, locks: ConfigLocks, sandbox_id: SandboxId, url: str
) -> Gateway:
    """A sandbox's gateway, with its token."""
    return Gateway(forwarder, url, box.gateway_token(sandbox_id), locks.lock_of(sandbox_id))


def open_dashboard(
    settings: Settings,
    engine_facts: Callable[[], Awaitable[EngineFacts]],
    health: Health,
    usage_samples: UsageSamples,
    dashboard_sessions: DashboardSessions,
) -> Dashboard:
    """What the dashboard's pages are made of."""
    assets = Assets()
    return Dashboard(
        dashboard_sessions=dashboard_sessions,
        usage_samples=usage_samples,
        server_diagnosis=ServerDiagnosis(settings, health, engine_facts),
        assets=assets,
        rendering=Rendering(assets),
        chat_streams=ChatStreams(),
        base_url=f"{settings.client_url}/v1",
        env_command=f'eval "$({program(settings.data_dir)} env)"',
    )


def server_facts(settings: Settings, machine: Machine, relay_url: str) -> ServerFacts:
    """What does not change while the server runs."""
    return ServerFacts(
        version=__version__,
        openclaw_version=openclaw_version(),
        image=machine.image,
        base_url=settings.client_url,
        data_dir=str(settings.data_dir),
        pid=os.getpid(),
        started_at=now(),
        relay_url=relay_url,
    )
