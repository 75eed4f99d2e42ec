"""Writes scripts of replies, and rules that say again what a model has said (pure)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.relay.prompt_format.user_messages import view
from chowder_local.relay.scripts.rules import Rule

if TYPE_CHECKING:
    from chowder_local.relay.scripts.rules import ReplyScript
    from chowder_local.relay.wire.conversation import Conversation
    from chowder_local.relay.wire.wire_format import ModelOutput

WORDS_MAX = 200
"""Of what a person said; more would make the rule depend on every word of it."""

LONG = 100
"""Rules."""


def serialize(script: ReplyScript) -> str:
    """The script as a person writes it, or a long one at least so that it is quickly there."""
    # Few servers are given one.
    import yaml

    content = script.model_dump(mode="json", exclude_unset=True)
    if len(script.replies) > LONG:
        # YAML as well, and written in a hundredth of the time.
        return json.dumps(content, indent=2, ensure_ascii=False)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return text


def rule_of(conversation: Conversation, output: ModelOutput, status: int | None) -> Rule:
    """A rule about what was asked, which replies with what was said, or with the same failure."""
    seen = view(conversation.turns)
    match = {
        "text": seen.latest[:WORDS_MAX],
        "tool": seen.returned.name if seen.returned is not None else None,
    }
    # What is not set is not written down either.
    set_ = {name: value for name, value in match.items() if value}
    return Rule.model_validate({"match": set_, "reply": _reply(output, status)})


def _reply(output: ModelOutput, status: int | None) -> dict[str, Any] | str:
    if status is not None and status >= 400:
        return {"error": status} | ({"message": output.error} if output.error else {})
    calls = [{"name": each.name, "arguments": dict(each.arguments)} for each in output.calls]
    if not calls:
        return output.text
    return ({"text": output.text} if output.text else {}) | {"calls": calls}
