"""The rule of a script that says again what a model has said (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.relay.offline.view import seen
from chowder_local.relay.scripts.rules import Rule

if TYPE_CHECKING:
    from chowder_local.relay.answers import ModelSaid
    from chowder_local.relay.offline.conversation import Conversation

WORDS_MAX = 200
"""Of what a person said; more would make the rule depend on every word of it."""


def rule_of(asked: Conversation, said: ModelSaid, status: int | None) -> Rule:
    """A rule about what was asked, which replies with what was said, or with the same failure."""
    view = seen(asked)
    match = {
        "text": view.messages[-1][:WORDS_MAX] if view.messages else None,
        "tool": view.returned.name if view.returned is not None else None,
    }
    # What is not set is not written down either.
    set_ = {name: value for name, value in match.items() if value}
    return Rule.model_validate({"match": set_, "reply": _reply(said, status)})


def _reply(said: ModelSaid, status: int | None) -> dict[str, Any] | str:
    if status is not None and status >= 400:
        return {"error": status} | ({"message": said.error} if said.error else {})
    calls = [{"name": each.name, "arguments": dict(each.arguments)} for each in said.calls]
    if not calls:
        return said.text
    return ({"text": said.text} if said.text else {}) | {"calls": calls}
