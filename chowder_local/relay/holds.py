"""What may hold a model call before it is sent, and how the call goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.calls import RelayRequest
    from chowder_local.relay.scripts.rules import Action


@dataclass(frozen=True)
class Release:
    """How a held call goes on: as it is, with another body, or with an answer or error instead."""

    content: dict[str, Any] | None = None
    action: Action | None = None

    @property
    def how(self) -> str:
        if self.action is not None:
            return "answered" if self.action.error is None else "failed"
        return "continued" if self.content is None else "edited"


class Hold(Protocol):
    """A call that is held."""

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""

    async def wait(self, timeout_s: float) -> bool:
        """Whether it is let go, or its hold ends with the server, within so many seconds."""

    async def released(self) -> Release:
        """How it goes on, once it is let go. Raises HoldEnded if nobody lets it go."""

    def end(self, how: str = "left") -> None:
        """The call waits no more: it is sent or answered, or its sandbox has left."""


BeforeModelCall = Callable[["RelayRequest", "ModelCall"], Awaitable[Hold | None]]
"""Looks at a call before it is sent, and holds it or lets it pass (None)."""
