"""Calls of the gateway's own protocol that its HTTP side does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.domain import GATEWAY_PORT
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.openclaw.sandbox_exec import Program, error_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Processes

CALL_TIMEOUT_S = 30.0


class Control:
    """Calls gateways from inside their sandboxes, in 0.1–0.3 s each.

    OpenClaw's command line does the same in seconds; from outside, a gateway asks for a device
    that was paired by hand.
    """

    def __init__(self, processes: Processes, token_of: Callable[[SandboxId], str]) -> None:
        self._program = Program(processes, "call.mjs")
        self._token_of = token_of

    async def call(
        self,
        sandbox_id: SandboxId,
        method: str,
        params: Mapping[str, Any],
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        """The call's payload.

        Raises RpcRefused with the gateway's words, GatewayUnavailable, EngineUnavailable,
        SandboxMissing, SandboxPaused.
        """
        request = {
            "token": self._token_of(sandbox_id),
            "port": GATEWAY_PORT,
            "method": method,
            "params": params,
        }
        overdue = f"no answer to {method} within {timeout_s:.0f} s"
        answer = await self._program.ask(sandbox_id, request, timeout_s=timeout_s, overdue=overdue)
        if answer.get("ok"):
            return untrusted_json.object_of(answer.get("payload"))
        message = error_message(answer) or "the call failed"
        code = untrusted_json.object_at(answer, "error").get("code")
        # With a payload it is not the gateway that is unavailable: the call itself says no.
        if code in ("UNREACHABLE", "UNAVAILABLE") and not answer.get("payload"):
            raise GatewayUnavailable(message)
        raise RpcRefused(message)
