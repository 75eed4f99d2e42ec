"""Throw-away turns, so that an agent's first real one is quick."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.openclaw.sandbox_exec import Program, command, error_message
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.control import Control
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.sandbox_exec import Processes

WORDS = "Hello."
TURN_COUNT = 2
"""The second still has some code to load; the third has none."""
ERASE_TIMEOUT_S = 60.0

_ERASER = "erase_session.py"


class WarmUp:
    def __init__(self, control: Control, processes: Processes, home: str) -> None:
        self._control = control
        self._eraser = Program(processes, _ERASER)
        self._home = home

    @property
    def fingerprint(self) -> str:
        """Tells apart what was warmed, and left, otherwise than one is now."""
        return hashlib.sha256("\0".join(command(_ERASER)).encode()).hexdigest()[:8]

    async def warm(self, sandbox_id: SandboxId, gateway: Gateway, model: str) -> None:
        """Has the agent answer in a conversation of which nothing is left when this returns.

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
        # OpenClaw keeps the lines, its search has their words, and its logs the runs.
        await self._erase(sandbox_id, session_key(session))

    async def _erase(self, sandbox_id: SandboxId, key: str) -> None:
        question = {"op": "erase", "home": self._home, "key": key}
        answer = await self._eraser.ask(
            sandbox_id,
            question,
            timeout_s=ERASE_TIMEOUT_S,
            overdue="the warm-up takes too long to be erased",
        )
        if not answer.get("ok"):
            reason = error_message(answer)[:300]
            raise GatewayUnavailable(f"the warm-up could not be erased: {reason}")


async def _turn(gateway: Gateway, model: str, session: str) -> None:
    request = {"model": "openclaw", "input": WORDS, "stream": True}
    async with gateway.respond(request, model=model, session=session) as answer:
        output = await answer.read()
        if not answer.is_success or b"response.completed" not in output:
            raise GatewayUnavailable("the warm-up was not answered")
