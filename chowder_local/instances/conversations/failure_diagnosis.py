"""Diagnosing why an agent refuses a message or does not answer."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import (
    AgentDiskFull,
    AgentRenewed,
    AnswerUnfit,
    GatewayUnavailable,
    MessageRefused,
)
from chowder_local.core.errors.sandboxes import NodeUnreachable
from chowder_local.instances.lifecycle.readiness import MIN_FREE_DISK_BYTES, out_of_memory
from chowder_local.openclaw.shortcuts import FAILURE_MARKERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.healing import Healing
    from chowder_local.openclaw.shortcuts import Allows
    from chowder_local.relay.prompt_format import FailureMarkers

    FindFailure = Callable[[str], Awaitable[ChowderError | None]]
    """Finds the failed model call that a message of the gateway is about, if any."""

log = logging.getLogger(__name__)

UNSPECIFIC_ERROR = "internal error"
"""OpenClaw's message for all that it does not handle, such as a full disk."""
FULL_DISKS_KEPT = 256
"""So many sandboxes are remembered whose disk was full."""
UNMARKED_ERRORS = {"upstream provider timeout", "upstream provider error", UNSPECIFIC_ERROR}
"""OpenClaw's messages for a failed model call that lose the relay's failure marker."""
EXPLANATIONS = {
    "invalid request": "input: an image or file of the message could not be taken. It may be "
    "broken or too large (images 10 MB, files 5 MB), or be at an address that the agent does not "
    "reach; it fetches nothing from private addresses.",
    "upstream provider timeout": "the agent could not make sense of the model provider's answer, "
    "or gave up waiting for it",
    "invalid tool configuration": "tools: a function is called like one of the agent's own tools.",
}
"""The causes behind some of OpenClaw's messages, which it names only in its own log."""
TOOL_CHOICE_PREFIX = "tool_choice"
"""OpenClaw's message begins with this if the model called none of the required functions."""


@dataclass(eq=False, repr=False)
class FailureDiagnosis:
    """Finds causes that OpenClaw does not name, and repairs the agent where possible."""

    engine: Engine
    healing: Healing
    failures: FailureMarkers
    allows: Allows

    def __post_init__(self) -> None:
        # Bounded, because instances that are deleted while it is full are never removed.
        self._full_disks: deque[SandboxId] = deque(maxlen=FULL_DISKS_KEPT)

    async def find_failure(
        self, sandbox_id: SandboxId, since_s: float, message: str
    ) -> ChowderError | None:
        """The failed model call that the gateway's message is about, if it is on record."""
        if (marked := self.failures.find(message)) is not None:
            return marked
        if message in UNMARKED_ERRORS or not await self.allows(FAILURE_MARKERS, sandbox_id):
            return self.failures.latest(sandbox_id, since_s)
        return None

    async def diagnose(
        self,
        instance: Instance,
        status: int,
        body: Mapping[str, Any],
        find_failure: FindFailure,
    ) -> ChowderError:
        """The error that the client gets for the gateway's refusal."""
        message = _message(status, body)
        error = await find_failure(message) or _error(status, message)
        if type(error) is GatewayUnavailable and message == UNSPECIFIC_ERROR:
            return await self._find_cause(instance) or error
        return error

    async def _find_cause(self, instance: Instance) -> GatewayUnavailable | None:
        """The cause of an unspecific error, if the disk shows it."""
        try:
            free_bytes = await self.engine.disk_free_bytes(instance.sandbox_id)
        except ChowderError as problem:
            log.warning("instance %s: its failure has no known cause: %s", instance.id, problem)
            return None
        if free_bytes < MIN_FREE_DISK_BYTES:
            if instance.sandbox_id not in self._full_disks:
                self._full_disks.append(instance.sandbox_id)
            return AgentDiskFull()
        if instance.sandbox_id not in self._full_disks:
            return None
        # To OpenClaw, a turn whose end did not fit on the disk is still running.
        self._full_disks.remove(instance.sandbox_id)
        await self.healing.reboot(instance)
        return AgentRenewed()

    async def heal(self, instance: Instance) -> ChowderError | None:
        """Heals an agent that does not answer. Logs failures.

        Returns the reason why it does not answer, if its whole machine is away or it ran out of
        memory.
        """
        reason = None
        try:
            sandbox = await self.engine.inspect(instance.sandbox_id)
            if sandbox.is_oom_killed:
                reason = GatewayUnavailable(f"the agent {out_of_memory(sandbox)}")
            await self.healing.check(instance)
        except NodeUnreachable as problem:
            return problem
        except ChowderError as problem:
            log.warning("instance %s: could not be healed: %s", instance.id, problem)
        return reason


def _error(status: int, message: str) -> ChowderError:
    if message.startswith(TOOL_CHOICE_PREFIX):
        return AnswerUnfit(f"The model called none of the required functions: {message}.")
    message = EXPLANATIONS.get(message, message)
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
        return MessageRefused(message)
    return GatewayUnavailable(message)


def _message(status: int, body: Mapping[str, Any]) -> str:
    message: str = untrusted_json.replace_surrogates(
        untrusted_json.message_of((body.get("error") or {}).get("message")) or f"HTTP {status}"
    )
    return message
