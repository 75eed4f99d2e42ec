"""The server's health report and its metrics."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.sandboxes import EngineDiskFull, EngineUnavailable, ImageMissing
from chowder_local.core.metrics import Figures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.boots import BootQueue
    from chowder_local.instances.lifecycle.capacity import Capacity
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.warm_pool.pool import WarmPool
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries


@dataclass(frozen=True)
class ServerFacts:
    """Facts that do not change while the server runs."""

    version: str
    openclaw_version: str
    image: str
    base_url: str
    data_dir: str
    pid: int
    started_at: datetime
    relay_url: str
    features: Sequence[str]
    """The names of those that are on."""


PROBE_MAX_AGE = timedelta(seconds=1)


@dataclass(frozen=True)
class _EngineProbe:
    """The engine's latest answers."""

    at: datetime
    engine: dict[str, Any]
    limit: int | None
    shortcuts_off: dict[str, str] | None


@dataclass(eq=False, repr=False)
class Health:
    """Reports on the parts of the server. Reads the store each time.

    Asks the engine at most once a second, because requests for health need no key.
    """

    facts: ServerFacts
    engine: Engine
    find_misfits: Callable[[], Awaitable[Mapping[str, str]]]
    instances: InstanceQueries
    warm_queries: WarmSandboxQueries
    pool: WarmPool
    provisioner: Provisioner
    boot_queue: BootQueue
    capacity: Capacity
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._probe: _EngineProbe | None = None
        self._probing = asyncio.Lock()

    async def report(self) -> dict[str, Any]:
        """`status` is `ok`, or `degraded` while no agent could boot: see the `engine`'s `error`."""
        probe = await self._engine_probe()
        facts = asdict(self.facts)
        relay_url = facts.pop("relay_url")
        return {
            "status": "ok" if probe.engine["error"] is None else "degraded",
            **facts,
            "started_at": self.facts.started_at.isoformat(),
            "engine": dict(probe.engine),
            "shortcuts_off": probe.shortcuts_off,
            "relay": {"url": relay_url},
            "places": probe.limit,
            "nodes": [asdict(node) for node in self.engine.nodes()],
            "boots": {
                "in_progress": self.provisioner.in_progress_count,
                "queued": self.boot_queue.length,
            },
            "pool": {
                "size": self.pool.size,
                "ready": await self._warm_count(),
                "error": self.pool.problem,
            },
            "instances": {
                str(status): count for status, count in (await self.instances.counts()).items()
            },
            "hibernated": await self.instances.hibernated_count(),
        }

    async def _engine_probe(self) -> _EngineProbe:
        # Requests that come during a probe wait for it.
        async with self._probing:
            if self._probe is None or self.clock() - self._probe.at >= PROBE_MAX_AGE:
                self._probe = await self._probe_engine()
            return self._probe

    async def _probe_engine(self) -> _EngineProbe:
        engine: dict[str, Any] = {"reachable": True, "version": None, "error": None}
        limit, shortcuts_off = None, None
        try:
            engine["version"] = await self.engine.version()
            limit = await self.capacity.limit()
            await self.engine.check_image()
            shortcuts_off = dict(await self.find_misfits())
        except (ImageMissing, EngineDiskFull) as missing:
            engine["error"] = str(missing)
        except EngineUnavailable as unavailable:
            engine |= {"reachable": False, "error": str(unavailable)}
        return _EngineProbe(self.clock(), engine, limit, shortcuts_off)

    async def figures(self) -> Figures:
        """The state as metrics, without a call to the engine, which may be slow."""
        return Figures(
            version=self.facts.version,
            started_at_s=self.facts.started_at.timestamp(),
            instances={str(k): n for k, n in (await self.instances.counts()).items()},
            instances_hibernated=await self.instances.hibernated_count(),
            warm_sandboxes_ready=await self._warm_count(),
            boots_in_progress=self.provisioner.in_progress_count,
            boots_queued=self.boot_queue.length,
            engine_failures=self.engine.failure_count,
            nodes={node.name: node.sandboxes for node in self.engine.nodes()},
            nodes_linked=sum(node.is_linked for node in self.engine.nodes()),
        )

    async def _warm_count(self) -> int:
        return sum(each.gateway_url is not None for each in await self.warm_queries.all())
