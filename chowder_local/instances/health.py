"""What the server says of itself: is it ready, and what is wrong if something is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.instances.ports import Engine
    from chowder_local.store.instances import InstanceQueries


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


class Health:
    """Asks the parts how they are, each time anew."""

    def __init__(self, facts: ServerFacts, engine: Engine, instances: InstanceQueries) -> None:
        self._facts = facts
        self._engine = engine
        self._instances = instances

    async def report(self) -> dict[str, Any]:
        """`status` is `ok`, or `degraded` while the engine does not answer."""
        engine: dict[str, Any] = {"reachable": True, "version": None, "error": None}
        try:
            engine["version"] = await self._engine.version()
        except EngineUnavailable as unavailable:
            engine |= {"reachable": False, "error": str(unavailable)}
        facts = asdict(self._facts)
        relay_url = facts.pop("relay_url")
        return {
            "status": "ok" if engine["reachable"] else "degraded",
            **facts,
            "started_at": self._facts.started_at.isoformat(),
            "engine": engine,
            "relay": {"url": relay_url},
            "instances": {
                str(status): count for status, count in (await self._instances.counts()).items()
            },
        }
