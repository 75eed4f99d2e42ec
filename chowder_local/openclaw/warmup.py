"""Warms an agent up with throw-away turns, so that its first real turn is fast."""

from __future__ import annotations

import hashlib
import logging
import secrets
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.openclaw.sandbox_exec import Program, command, error_message
from chowder_local.openclaw.session_keys import session_key
from chowder_local.openclaw.shortcuts import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.sandbox_exec import Control, Processes
    from chowder_local.openclaw.shortcuts import MayTake

log = logging.getLogger(__name__)

TEXT = "Hello."
TURN_COUNT = 2
"""OpenClaw still loads some code for the second turn, and none for the third."""
ERASE_TIMEOUT_S = 120.0
ERASURE_COUNT = 6
"""Two do, or three if OpenClaw has written in between."""

_ERASER = "erase_session.py"


class WarmUp:
    def __init__(self, control: Control, processes: Processes, home: str, allows: MayTake) -> None:
        self._control = control
        self._eraser = Program(processes, _ERASER)
        self._home = home
        self._allows = allows

    @property
    def fingerprint(self) -> str:
        """A digest of the erasing program; sandboxes warmed with another one are replaced."""
        return hashlib.sha256("\0".join(command(_ERASER)).encode()).hexdigest()[:8]

    async def warm(self, sandbox_id: SandboxId, gateway: Gateway, model: str) -> None:
        """Lets the agent answer in a conversation, and erases that conversation.

        Does nothing if the conversation could not be erased from this release's databases.
        Raises GatewayUnavailable if a turn is not answered or the conversation cannot be erased;
        RpcRefused, EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        if not await self._allows(WARM_UP):
            return
        # A name that no client uses for its own conversation.
        session = secrets.token_hex(16)
        for _ in range(TURN_COUNT):
            await _turn(gateway, model, session)
        # The first read of the configuration is slow, too.
        await gateway.call("config.get", {})
        # To archive the transcript as well would delay the next turn by more than a second.
        params = {"key": session_key(session), "deleteTranscript": False}
        await self._control.call(sandbox_id, "sessions.delete", params)
        # OpenClaw keeps the transcript, its search index and its log of runs. What it has read for
        # its index of memories it writes later.
        ids: Sequence[str] = ()
        is_truncated = True
        for _ in range(ERASURE_COUNT):
            erased = await self._erase(sandbox_id, session_key(session), ids)
            if not erased["is_found"]:
                return
            ids, is_truncated = erased["ids"], erased["is_truncated"]
            await gateway.collect_garbage()
        if is_truncated:
            raise GatewayUnavailable("OpenClaw still writes down the warm-up")
        log.warning(
            "sandbox %s: OpenClaw still reads its database, so a log of that has the text of "
            "the warm-up until OpenClaw writes over it",
            sandbox_id,
        )

    async def _erase(self, sandbox_id: SandboxId, key: str, ids: Sequence[str]) -> dict[str, Any]:
        request = {"op": "erase", "home": self._home, "key": key, "ids": ids}
        answer = await self._eraser.ask(
            sandbox_id,
            request,
            timeout_s=ERASE_TIMEOUT_S,
            timeout_message="the warm-up was not erased in time",
        )
        if not answer.get("ok"):
            reason = error_message(answer)[:300]
            raise GatewayUnavailable(f"the warm-up could not be erased: {reason}")
        erased: dict[str, Any] = answer["payload"]
        return erased


async def _turn(gateway: Gateway, model: str, session: str) -> None:
    request = {"model": "openclaw", "input": TEXT, "stream": True}
    async with gateway.respond(request, model=model, session=session) as answer:
        output = await answer.read()
        if not answer.is_success or b"response.completed" not in output:
            raise GatewayUnavailable("the warm-up was not answered")
