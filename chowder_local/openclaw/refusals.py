"""Why gateways could not serve a call, and waiting for those that a stop or a copy suspends."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TypeVar

from chowder_local.core.errors.agents import GatewaySuspended
from chowder_local.core.errors.sandboxes import SandboxPaused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    WhenResumed = Callable[[float], Awaitable[None]]

Result = TypeVar("Result")

SUSPENSION_TIMEOUT_S = 150.0
"""OpenClaw ends a suspension that is left over after 120 s."""
_SUSPENDED = "unavailable during gateway suspension"
_NO_ROOM = re.compile(r"ENOSPC|no space left|disk is full", re.IGNORECASE)
SEARCHED_CHARACTERS = 4_000
"""The part of a gateway's refusal that is searched: an agent may write it, as long as it likes."""


def is_suspended(message: str) -> bool:
    """Whether a gateway refuses a call because it is suspended; it has done nothing then."""
    return message.endswith(_SUSPENDED)


def names_full_disk(message: str) -> bool:
    """Whether a gateway or its log names a full disk as the cause."""
    return _NO_ROOM.search(message, 0, SEARCHED_CHARACTERS) is not None


async def call_when_resumed(
    call: Callable[[], Awaitable[Result]], when_resumed: WhenResumed | None
) -> Result:
    """A call's result. One that a suspension has refused is made again when that has ended.

    `when_resumed` waits for that, until a moment on the monotonic clock; None does not wait.
    Raises what it and the call raise.
    """
    ends_s = time.monotonic() + SUSPENSION_TIMEOUT_S
    while True:
        try:
            return await call()
        except (GatewaySuspended, SandboxPaused):
            if when_resumed is None or time.monotonic() >= ends_s:
                raise
        await when_resumed(ends_s)
