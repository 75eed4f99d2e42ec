"""Throw-away turns, so that an agent's first real one is quick; they leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.errors.agents import GatewayUnavailable
from chowder_local.openclaw.sessions import session_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.domain import SandboxId
    from chowder_local.openclaw.control import Control
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.inside import Processes

SESSION = "warm-up"
WORDS = "Hello."
TURN_COUNT = 2
"""The second still has some code to load; the third has none."""


class WarmUp:
    """Warms the gateways of sandboxes that are nobody's yet."""

    def __init__(self, processes: Processes, control: Control) -> None:
        self._processes = processes
        self._control = control

    async def of(self, sandbox_id: SandboxId, gateway: Gateway, model: str) -> None:
        """Has the agent answer and forget that it did.

        Raises GatewayUnavailable, RpcRefused, EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        for _ in range(TURN_COUNT):
            await _turn(gateway, model)
        # The first look at the configuration is a slow one, too.
        await gateway.call("config.get", {})
        key = {"key": session_key(SESSION)}
        deleted = await self._control.call(sandbox_id, "sessions.delete", key)
        # What OpenClaw deletes it still keeps as a file, and the agent could read it.
        await self._remove(sandbox_id, [str(path) for path in deleted.get("archived") or []])

    async def _remove(self, sandbox_id: SandboxId, paths: Sequence[str]) -> None:
        async with self._processes.process(sandbox_id, ["rm", "--force", "--", *paths]) as process:
            while await process.read():
                pass
            if await process.exit_code() != 0:
                raise GatewayUnavailable(f"the warm-up is not forgotten: {process.complaint}")


async def _turn(gateway: Gateway, model: str) -> None:
    request = {"model": "openclaw", "input": WORDS, "stream": True}
    async with gateway.respond(request, model=model, session=SESSION) as answer:
        said = await answer.aread()
        if not answer.is_success or b"response.completed" not in said:
            raise GatewayUnavailable("the warm-up was not answered")
