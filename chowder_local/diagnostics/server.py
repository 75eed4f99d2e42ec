"""The checks of `doctor` as a running server makes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors import ChowderError
from chowder_local.diagnostics.checks import Finding, Level, examine, shortcuts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from chowder_local.core.settings import Settings
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.instances.monitoring.health import Health


@dataclass(eq=False, repr=False)
class ServerDiagnosis:
    """Runs all checks for each report, with some calls to the engine."""

    settings: Settings
    health: Health
    engine_facts: Callable[[], Awaitable[EngineFacts]]

    async def report(self) -> tuple[dict[str, Any], list[Finding]]:
        """The server's health report, and all findings."""
        health = await self.health.report()
        pool = [_pool(health["pool"]), *_nodes(health["nodes"])]
        facts: EngineFacts | ChowderError
        images: list[Finding] = []
        try:
            facts = await self.engine_facts()
            images = list(_images(health))
        except ChowderError as failure:
            facts = failure
        checks = examine(self.settings, facts, images, health, pool)
        return health, await asyncio.to_thread(list, checks)


def _images(health: Mapping[str, Any]) -> Iterator[Finding]:
    if (problem := health["engine"]["error"]) is not None:
        # The error's message contains its cure.
        yield Finding("image", Level.FAIL, problem)
        return
    yield Finding("image", Level.OK, f"{health['image']} is there")
    if (off := health["shortcuts_off"]) is not None:
        yield from shortcuts(off, health["openclaw_version"])


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """A finding for each machine of a swarm."""
    for node in nodes:
        subject, words = f"node, {node['name']}", f"{node['sandboxes']} sandboxes"
        if not node["is_linked"]:
            problem = node["problem"] or "its worker does not answer; see docker node ls"
            yield Finding(subject, Level.WARN, f"{words}; {problem}")
            continue
        free_gb = (node["available_bytes"] or 0) / 1e9
        drained = ", drained" if node["is_drained"] else ""
        yield Finding(subject, Level.OK, f"{words}, {free_gb:.1f} GB of memory free{drained}")


def _pool(pool: Mapping[str, Any]) -> Finding:
    words = f"{pool['ready']} of {pool['size']} warm sandboxes ready"
    if pool["error"] is not None:
        return Finding("pool", Level.WARN, f"{words}; {pool['error']}")
    return Finding("pool", Level.OK, words)
