"""Which of the named providers a sandbox's call is for, and how it is put to that one (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import OTHER_PROVIDERS
from chowder_local.relay.wire.wire_format import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Collection

    from chowder_local.relay.calls import ModelCall

PATH = "chat/completions"
"""All that is called of such a provider: others of its paths may load, change and remove things."""

LEAST_ANSWER_TOKENS = 16
"""Clients may not ask for less (OpenAI's Responses API), so it is not they who do."""


def route(call: ModelCall, names: Collection[str]) -> ModelCall:
    """The call as its provider gets it; one that is for no provider of those stays as it is.

    A sandbox has one provider for all of them, whose model ids are `name/model`: so a blank agent
    is the same whatever providers there are.
    """
    if call.provider != OTHER_PROVIDERS:
        return call
    try:
        content = dict(call.content)
        name, _, model = content["model"].partition("/")
        if name not in names or not model:
            return call
        content["model"] = model
        # Ollama understands the older name only, and the others both.
        longest = content.pop("max_completion_tokens", None)
        # OpenClaw asks for a single token where it takes the prompt for too long, which is a guess.
        if longest is not None and longest >= LEAST_ANSWER_TOKENS:
            content["max_tokens"] = longest
        return call.with_content(content, provider=name)
    except MALFORMED:
        return call
