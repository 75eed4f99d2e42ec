"""What the server says of itself: is it ready, and what is wrong if something is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.core.metrics import Figures

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.capacity import Capacity
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.warm_pool.pool import Pool
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries


@dataclass(frozen=True)
class ServerFacts:
    """What does not change while the server runs."""

    version: str
    openclaw_version: str
    image: str
    base_url: str
    data_dir: str
    pid: int
    started_at: datetime
    relay_url: str


LOOK_AGE_S = 1.0


@dataclass(frozen=True)
class _EngineLook:
    """What the engine has said of itself, and when."""

    at_s: float
    engine: dict[str, Any]
    places: int | None


class Health:
    """Asks the parts how they are: the store each time, and the engine once a second at most.

    Whoever asks needs no key, and the engine has other work.
    """

    def __init__(
        self,
        facts: ServerFacts,
        engine: Engine,
        instances: InstanceQueries,
        spares: WarmSandboxQueries,
        pool: Pool,
        provisioner: Provisioner,
        capacity: Capacity,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._facts = facts
        self._engine = engine
        self._instances = instances
        self._spares = spares
        self._pool = pool
        self._provisioner = provisioner
        self._capacity = capacity
        self._seconds = seconds
        self._look: _EngineLook | None = None
        self._looking = asyncio.Lock()

    async def report(self) -> dict[str, Any]:
        """`status` is `ok`, or `degraded` while no agent could boot: see the `engine`'s `error`."""
        look = await self._engine_look()
        facts = asdict(self._facts)
        relay_url = facts.pop("relay_url")
        return {
            "status": "ok" if look.engine["error"] is None else "degraded",
            **facts,
            "started_at": self._facts.started_at.isoformat(),
            "engine": dict(look.engine),
            "relay": {"url": relay_url},
            "places": look.places,
            "boots": {
                "under_way": self._provisioner.under_way_count,
                "queued": self._provisioner.queue_length,
            },
            "pool": {
                "size": self._pool.size,
                "ready": await self._spares_ready(),
                "error": self._pool.problem,
            },
            "instances": {
                str(status): count for status, count in (await self._instances.counts()).items()
            },
        }

    async def _engine_look(self) -> _EngineLook:
        # All who ask while somebody looks wait for that, however long the engine takes.
        async with self._looking:
            if self._look is None or self._seconds() - self._look.at_s >= LOOK_AGE_S:
                self._look = await self._looked()
            return self._look

    async def _looked(self) -> _EngineLook:
        engine: dict[str, Any] = {"reachable": True, "version": None, "error": None}
        places = None
        try:
            engine["version"] = await self._engine.version()
            places = await self._capacity.places()
            await self._engine.check_image()
        except ImageMissing as missing:
            engine["error"] = str(missing)
        except EngineUnavailable as unavailable:
            engine |= {"reachable": False, "error": str(unavailable)}
        return _EngineLook(self._seconds(), engine, places)

    async def figures(self) -> Figures:
        """What metrics tell of the state; the engine, which may take its time, is not asked."""
        return Figures(
            version=self._facts.version,
            started_at_s=self._facts.started_at.timestamp(),
            instances={str(k): n for k, n in (await self._instances.counts()).items()},
            spares_ready=await self._spares_ready(),
            boots_under_way=self._provisioner.under_way_count,
            boots_queued=self._provisioner.queue_length,
            engine_failures=self._engine.failure_count,
        )

    async def _spares_ready(self) -> int:
        return sum(each.gateway_url is not None for each in await self._spares.all())
