"""What `doctor` looks at, as a server finds it that runs: each finding with its cure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors import ChowderError
from chowder_local.diagnostics import checks
from chowder_local.diagnostics.checks import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from chowder_local.core.settings import Settings
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.instances.monitoring.health import Health


class ServerDiagnosis:
    """Looks anew each time it is asked; what it costs are some calls to the engine."""

    def __init__(
        self, settings: Settings, health: Health, engine_facts: Callable[[], Awaitable[EngineFacts]]
    ) -> None:
        self._settings = settings
        self._health = health
        self._engine_facts = engine_facts

    async def report(self) -> tuple[dict[str, Any], list[Finding]]:
        """What the server says of itself, and every finding, from the ground up."""
        health = await self._health.report()
        try:
            facts = await self._engine_facts()
        except ChowderError as failure:
            # The sentence of the failure has its cure in it.
            found = [Finding("engine", Level.FAIL, str(failure))]
            return health, found + await asyncio.to_thread(list, self._around(health, None))
        return health, await asyncio.to_thread(list, self._around(health, facts))

    def _around(self, health: Mapping[str, Any], facts: EngineFacts | None) -> Iterator[Finding]:
        yield checks.versions()
        yield from checks.data_dir(self._settings)
        if facts is not None:
            yield from checks.engine(facts)
            yield _image(health)
        yield from checks.disk(self._settings, facts)
        if facts is not None:
            yield checks.memory(facts, health["instances"]["running"])
        yield from checks.ports(self._settings, health)
        yield from checks.test_runs(self._settings)
        yield _pool(health["pool"])


def _image(health: Mapping[str, Any]) -> Finding:
    if (problem := health["engine"]["error"]) is not None:
        # The words of what is missing have its cure in them.
        return Finding("image", Level.FAIL, problem)
    return Finding("image", Level.OK, f"{health['image']} is there")


def _pool(pool: Mapping[str, Any]) -> Finding:
    words = f"{pool['ready']} of {pool['size']} spares ready"
    if pool["error"] is not None:
        return Finding("pool", Level.WARN, f"{words}; {pool['error']}")
    return Finding("pool", Level.OK, words)
