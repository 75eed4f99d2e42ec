"""Calls to the gateway's WebSocket protocol, for methods that its HTTP API does not have."""

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
    """Calls gateways from inside their sandboxes; a call takes 0.1–0.3 s.

    OpenClaw's command line takes seconds, and a call from outside the sandbox needs a device that
    was paired by hand.
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

        Raises RpcRefused with the gateway's message if it refuses the call, GatewayUnavailable if
        it does not answer in `timeout_s`, EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        request = {
            "token": self._token_of(sandbox_id),
            "port": GATEWAY_PORT,
            "method": method,
            "params": params,
        }
        answer = await self._program.ask(
            sandbox_id,
            request,
            timeout_s=timeout_s,
            timeout_message=f"no answer to {method} within {timeout_s:.0f} s",
        )
        if answer.get("ok"):
            return untrusted_json.object_of(answer.get("payload"))
        message = error_message(answer) or "the call failed"
        code = untrusted_json.object_at(answer, "error").get("code")
        # An error with a payload is the method's own answer, not an unavailable gateway.
        if code in ("UNREACHABLE", "UNAVAILABLE") and not answer.get("payload"):
            raise GatewayUnavailable(message)
        raise RpcRefused(message)
