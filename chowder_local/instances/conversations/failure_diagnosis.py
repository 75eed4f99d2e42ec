"""What it means that an agent refuses a message, or answers none."""

from __future__ import annotations

import logging
from collections import deque
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.healing import Healing
    from chowder_local.relay.prompt_format.failure_markers import FailureMarkers

    Known = Callable[[str], ChowderError | None]

log = logging.getLogger(__name__)

EMPTY_WORDS = "internal error"
"""What OpenClaw says of what it did not foresee, a full disk for one."""
LITTLE_DISK_BYTES = 1024 * 1024
"""What is left of a disk when nothing more fits on it: a database takes it by pages."""
FULL_KEPT = 256
"""Sandboxes whose disk is remembered to have been full."""
STUCK_SIGN = 'error="Agent database cleanup failed"'
"""What OpenClaw writes into its log when all turns fail until it is started again. It closes a
worker's database a minute after a turn, and its own after half an hour; frozen before the first,
and thawed when both are due, it often fails to."""
STUCK_SIGN_LINES = 10
"""From the end: the failure is written just before it is answered."""
OWN_WORDS = {"upstream provider timeout", "upstream provider error", EMPTY_WORDS}
"""What OpenClaw says in place of a model call's error, which then carries no marker of ours."""
PLAINER_WORDS = {
    "invalid request": "input: an image or file of the message could not be taken. It may be "
    "broken or too large (images 10 MB, files 5 MB), or be at an address that the agent does not "
    "reach; it fetches nothing from private addresses.",
    "upstream provider timeout": "the agent could not make sense of the model provider's answer, "
    "or gave up waiting for it",
    "invalid tool configuration": "tools: a function is called like one of the agent's own tools.",
}
"""What some of OpenClaw's own words are about; it writes the cause into its own log alone."""
CHOICE_UNMET = "tool_choice"
"""How OpenClaw's words begin when a model called none of the functions that it had to."""


class FailureDiagnosis:
    """Finds the cause that OpenClaw does not name, and mends it where that can be done."""

    def __init__(self, engine: Engine, healing: Healing, failures: FailureMarkers) -> None:
        self._engine = engine
        self._healing = healing
        self._failures = failures
        # Those that are deleted like that never have their turn to be removed.
        self._were_full: deque[SandboxId] = deque(maxlen=FULL_KEPT)

    def known(self, sandbox_id: SandboxId, since_s: float, message: str) -> ChowderError | None:
        """The model call's failure that the gateway speaks of, if it is one that we remember."""
        if (marked := self._failures.find(message)) is not None:
            return marked
        return self._failures.latest(sandbox_id, since_s) if message in OWN_WORDS else None

    async def of_refusal(
        self, instance: Instance, status: int, body: Mapping[str, Any], known: Known
    ) -> ChowderError:
        """What the gateway's refusal means to the client."""
        failure = _failure(status, body, known)
        is_empty = type(failure) is GatewayUnavailable and _words(status, body) == EMPTY_WORDS
        return (await self._cause(instance) if is_empty else None) or failure

    async def _cause(self, instance: Instance) -> GatewayUnavailable | None:
        """Why an agent failed that says nothing of it, as far as that can be seen."""
        try:
            free_bytes = await self._engine.disk_free_bytes(instance.sandbox_id)
            log_end = await self._engine.log_tail(instance.sandbox_id, STUCK_SIGN_LINES)
        except ChowderError as problem:
            log.warning("instance %s: it could not be looked at: %s", instance.id, problem)
            return None
        if free_bytes < LITTLE_DISK_BYTES:
            if instance.sandbox_id not in self._were_full:
                self._were_full.append(instance.sandbox_id)
            return AgentDiskFull()
        if instance.sandbox_id in self._were_full:
            # OpenClaw takes a turn whose end did not fit on the disk for one that runs.
            self._were_full.remove(instance.sandbox_id)
            what = "the disk that was full"
        elif STUCK_SIGN in log_end:
            what = "the time in which it was frozen"
        else:
            return None
        await self._healing.renew(instance)
        return AgentRenewed(what)

    async def look_after(self, instance: Instance) -> None:
        """Heals an agent that does not answer, as far as that can be done now."""
        try:
            await self._healing.check(instance)
        except ChowderError as problem:
            log.warning("instance %s: could not be looked after: %s", instance.id, problem)


def _failure(status: int, body: Mapping[str, Any], known: Known) -> ChowderError:
    """What the gateway's refusal means to the client."""
    message = _words(status, body)
    if (failure := known(message)) is not None:
        return failure
    if message.startswith(CHOICE_UNMET):
        return AnswerUnfit(f"The model called no function of those that it had to: {message}.")
    message = PLAINER_WORDS.get(message, message)
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
        return MessageRefused(message)
    return GatewayUnavailable(message)


def _words(status: int, body: Mapping[str, Any]) -> str:
    words: str = untrusted_json.whole(
        str((body.get("error") or {}).get("message") or f"HTTP {status}")
    )
    return words
