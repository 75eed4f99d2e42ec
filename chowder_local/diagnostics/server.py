"""What `doctor` looks at, as a server finds it that runs: each finding with its cure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors import ChowderError
from chowder_local.diagnostics.checks import Finding, Level, examine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chowder_local.core.settings import Settings
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.instances.monitoring.health import Health


class ServerDiagnosis:
    """Runs the checks anew for each report, with some calls to the engine."""

    def __init__(
        self, settings: Settings, health: Health, engine_facts: Callable[[], Awaitable[EngineFacts]]
    ) -> None:
        self._settings = settings
        self._health = health
        self._engine_facts = engine_facts

    async def report(self) -> tuple[dict[str, Any], list[Finding]]:
        """What the server says of itself, and every finding, from the ground up."""
        health = await self._health.report()
        pool = [_pool(health["pool"])]
        facts: EngineFacts | ChowderError
        image: Finding | None = None
        try:
            facts = await self._engine_facts()
            image = _image(health)
        except ChowderError as failure:
            facts = failure
        found = await asyncio.to_thread(list, examine(self._settings, facts, image, health, pool))
        return health, found


def _image(health: Mapping[str, Any]) -> Finding:
    if (problem := health["engine"]["error"]) is not None:
        # The problem has its cure in it.
        return Finding("image", Level.FAIL, problem)
    return Finding("image", Level.OK, f"{health['image']} is there")


def _pool(pool: Mapping[str, Any]) -> Finding:
    words = f"{pool['ready']} of {pool['size']} warm sandboxes ready"
    if pool["error"] is not None:
        return Finding("pool", Level.WARN, f"{words}; {pool['error']}")
    return Finding("pool", Level.OK, words)
