"""Throw-away turns, so that an agent's first real one is quick."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from chowder_local.errors.agents import GatewayUnavailable
from chowder_local.openclaw.sessions import session_key

if TYPE_CHECKING:
    from chowder_local.domain import SandboxId
    from chowder_local.openclaw.control import Control
    from chowder_local.openclaw.gateway import Gateway

WORDS = "Hello."
TURN_COUNT = 2
"""The second still has some code to load; the third has none."""


class WarmUp:
    """Warms the gateways of sandboxes that are nobody's yet."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def of(self, sandbox_id: SandboxId, gateway: Gateway, model: str) -> None:
        """Has the agent answer in a conversation that is gone when this returns.

        OpenClaw's own records still tell of it: its audit of runs, and lines that nothing leads to.

        Raises GatewayUnavailable, RpcRefused, EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        # A name that no client will ever use for a conversation of its own.
        session = secrets.token_hex(16)
        for _ in range(TURN_COUNT):
            await _turn(gateway, model, session)
        # The first look at the configuration is a slow one, too.
        await gateway.call("config.get", {})
        # To have the lines archived as well would cost the next turn more than a second.
        forgotten = {"key": session_key(session), "deleteTranscript": False}
        await self._control.call(sandbox_id, "sessions.delete", forgotten)


async def _turn(gateway: Gateway, model: str, session: str) -> None:
    request = {"model": "openclaw", "input": WORDS, "stream": True}
    async with gateway.respond(request, model=model, session=session) as answer:
        said = await answer.read()
        if not answer.is_success or b"response.completed" not in said:
            raise GatewayUnavailable("the warm-up was not answered")
