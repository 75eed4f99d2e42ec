"""A server with a scripted engine and gateway; everything else is real."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chowder_local.app.application import State, state
from chowder_local.app.relay_app import create_relay_app
from chowder_local.core.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    SandboxId,
    SandboxState,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.events import Events
from chowder_local.core.model_endpoints import Endpoint
from chowder_local.core.secrets import SecretBox
from chowder_local.core.settings import Settings
from chowder_local.core.tasks import owned_tasks
from chowder_local.engine.specs import HOME, STATE_DIR
from chowder_local.features.feature import chosen_features, open_features
from chowder_local.instances.lifecycle.agents import EgressRule
from chowder_local.instances.monitoring.health import ServerFacts
from chowder_local.openclaw.file_programs import FilePrograms
from chowder_local.openclaw.gateway import open_gateways
from chowder_local.openclaw.home.state_transfer import StateTransfers
from chowder_local.relay.recordings import RecordingRegistry
from chowder_local.relay.scripts.registry import ScriptRegistry
from chowder_local.services import Services
from chowder_local.store.database import Database
from tests.scripted import homes
from tests.scripted.database import kitchen_database
from tests.scripted.engine import NOWHERE, ScriptedEngine
from tests.scripted.gateway import SandboxGateways, ScriptedGateway
from tests.scripted.local_processes import LocalProcesses
from tests.scripted.programs import ScriptedPrograms, done
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from starlette.applications import Starlette

    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.features.feature import Feature
    from tests.scripted.database import Kitchen

ENDPOINTS = {
    "lab": Endpoint("lab", "http://127.0.0.1:9/v1", contexts={"lab": 16_000}),
    "cloud": Endpoint("cloud", "http://127.0.0.1:9/v1", key="sk-cloud"),
    # No server listens there.
    "ollama": Endpoint("ollama", "http://127.0.0.1:9/v1"),
}
RELAY_URL = "http://relay.local:2470"
MAX_BODY_BYTES = 64 * 1024
TRANSFER_IDLE_TIMEOUT_S = 5.0
NO_CONVERSATION = done(is_known=False, messages=[], has_more=False)
PROGRAMS = {
    "jobs": {"jobs": []},
    "cron.run": done(),
    "wake": done(),
    "read": NO_CONVERSATION,
    "erase": done(ids=[], is_found=False, is_truncated=True),
}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(kw_only=True, eq=False, repr=False)
class World(Services):
    """The parts of a server, and its test doubles."""

    clock: Clock
    engine: ScriptedEngine
    gateway: ScriptedGateway
    processes: LocalProcesses
    programs: ScriptedPrograms
    beside: ScriptedPrograms
    organization_id: OrganizationId
    key: str

    @cached_property
    def state(self) -> State:
        """What requests find in `request.state`."""
        return state(self)

    @cached_property
    def relay_app(self) -> Starlette:
        """What agents call, with what features take of them."""
        return create_relay_app(self.relay, routes=self.feature_hooks.relay_routes)

    async def now(self, instance: Instance) -> Instance:
        """The instance as the store has it now."""
        current = await self.instances.get(instance.id)
        assert current is not None
        return current

    def state_of(self, instance: Instance) -> Path:
        """The folder of an instance's files and databases, in the home on its volume."""
        return self.engine.home(instance.sandbox_id) / homes.STATE

    async def settled(self, instance: Instance) -> Instance:
        """Waits for the instance's boot to end; returns the instance."""
        await eventually(
            lambda: not self.provisioner.is_in_progress(instance.id), "the boot has ended"
        )
        return await self.now(instance)

    async def created(self, **fields: Any) -> Instance:
        """Creates an instance and waits for its boot to end."""
        fields = {"name": "Ada"} | fields
        return await self.settled(await self.creation.create(self.organization_id, **fields))

    async def stopped(self) -> Instance:
        """Creates an instance and stops it."""
        instance = await self.created()
        return await self.lifecycle.stop(self.organization_id, instance.id)

    async def placed(
        self,
        status: InstanceStatus,
        number: int = 1,
        state: SandboxState | None = None,
        **fields: Any,
    ) -> Instance:
        """Adds a row as an earlier run of the server may have left it, and its sandbox if any."""
        sandbox_id = SandboxId(f"chowder-{number:012x}")
        if state is not None:
            self.engine.put(sandbox_id, state)
        sandbox = self.engine.containers.get(sandbox_id)
        defaults: dict[str, Any] = {
            "first_ready_at": self.clock.now,
            "gateway_url": (sandbox and sandbox.gateway_url) or NOWHERE,
            "organization_id": self.organization_id,
            "name": "Ada",
        }
        instance = Instance(
            id=InstanceId(f"instance-{number}"),
            status=status,
            model_provider=ModelProvider.ANTHROPIC,
            sandbox_id=sandbox_id,
            created_at=self.clock.now,
            updated_at=self.clock.now,
            **defaults | fields,
        )
        await self.instances.add(instance, limit=None)
        return instance


@asynccontextmanager
async def open_world(
    tmp_path: Path,
    *,
    kitchen: Kitchen | None = None,
    events: Events | None = None,
    egress: EgressRule | None = None,
    drain_timeout_s: float = 10.0,
    turn_timeout_s: float = math.inf,
    **settings: Any,
) -> AsyncIterator[World]:
    """A world on a database in its folder; its organization has keys for two of three providers."""
    clock, gateway, egress_rule = Clock(), ScriptedGateway(), egress or EgressRule()
    features = chosen_features(settings.get("features_off", ()))
    kitchen = kitchen or await kitchen_database(tmp_path, clock)
    secret_box = SecretBox(kitchen.secret)
    gateways = SandboxGateways(gateway, secret_box.gateway_token)
    # The path must not contain links.
    engine = ScriptedEngine(tmp_path.resolve() / "homes", gateways)
    processes = LocalProcesses(engine.running_home)
    programs = ScriptedPrograms(dict(PROGRAMS), check=engine.running_home)
    beside = ScriptedPrograms({"jobs": PROGRAMS["jobs"]}, check=engine.home)
    async with (
        Database.open(kitchen.path) as database,
        gateways.serving(),
        open_gateways(turn_timeout_s) as forwarder,
        StateTransfers(processes, HOME) as state_transfers,
        owned_tasks() as tasks,
    ):
        world = World(
            settings=_settings(tmp_path, egress=egress_rule.default, **settings),
            endpoints=ENDPOINTS,
            database=database,
            secret_box=secret_box,
            tasks=tasks,
            clock=clock,
            events=events or Events(),
            store_id="5eed",
            default_organization_id=OrganizationId("default"),
            providers=forwarder,
            scripts=ScriptRegistry(),
            recordings=RecordingRegistry(),
            engine=engine,
            exec=programs,
            # None waits for the next call: it would outlive its scripted sandbox.
            file_programs=FilePrograms(processes),
            exec_beside=beside,
            home=HOME,
            state_dir=STATE_DIR,
            gateways=forwarder,
            state_transfers=state_transfers,
            egress_rule=egress_rule,
            relay_url=RELAY_URL,
            is_idle=is_idle,
            server_facts=_facts(clock, features),
            engine_facts=_engine_facts,
            channel_connect_timeout_s=1.0,
            drain_timeout_s=drain_timeout_s,
            reconcile_interval_s=0.001,
            transfer_idle_timeout_s=TRANSFER_IDLE_TIMEOUT_S,
            gateway=gateway,
            processes=processes,
            programs=programs,
            beside=beside,
            organization_id=kitchen.organization_id,
            key=kitchen.key,
        )
        async with open_features(world, features):
            yield world


def _settings(folder: Path, **settings: Any) -> Settings:
    """Settings for quick tests, without a warm pool; `settings` override them."""
    defaults: dict[str, Any] = {
        "public_url": "http://server.test",
        "boot_timeout_s": 10.0,
        "boot_concurrency": 2,
        "warm_pool_size": 0,
        "warm_pool_max": 0,
        "max_body_bytes": MAX_BODY_BYTES,
    }
    return Settings(data_dir=folder, **defaults | settings)


async def is_idle() -> bool:
    """The machine has nothing else to do."""
    return True


async def _engine_facts() -> EngineFacts:
    raise EngineUnavailable("A scripted engine has no facts. Start a real one.")


def _facts(clock: Clock, features: Iterable[Feature]) -> ServerFacts:
    return ServerFacts(
        version="1.2.3",
        openclaw_version="2026.9.6",
        image="chowder-sandbox:1",
        base_url="http://127.0.0.1:2469",
        data_dir="/somewhere",
        pid=42,
        started_at=clock.now,
        relay_url=RELAY_URL,
        features=[each.name for each in features],
    )
