"""What a person said last, as a model call has it: freed of what OpenClaw puts around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.relay.offline import model as offline
from chowder_local.relay.offline.view import seen

if TYPE_CHECKING:
    from chowder_local.core.domain import ModelProvider


def last_words(provider: ModelProvider, path: str, body: bytes) -> str | None:
    """The words; None if that is no conversation that we can read."""
    asked = offline.asked(provider, path, "", body, 0)
    if not isinstance(asked, offline.Question):
        return None
    messages = seen(asked.conversation).messages
    return messages[-1] if messages else None
