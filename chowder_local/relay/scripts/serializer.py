"""Writes reply scripts, and makes rules that repeat a model's answer (pure)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.relay.prompt_format import AGENT_TOOL_NAMES, client_name, make_view
from chowder_local.relay.scripts.rules import ReplyScript, Rule

if TYPE_CHECKING:
    from chowder_local.relay.wire.conversation import Conversation
    from chowder_local.relay.wire.wire_format import ModelOutput

MATCHED_TEXT_MAX = 200
"""Characters of the message that a rule matches; more would make the rule too specific."""

LONG_SCRIPT_RULES = 100
LONG_SCRIPT_CHARS = 100_000
"""A script with more rules or characters is written as JSON, which is much faster."""


def serialize(script: ReplyScript) -> str:
    """The script as YAML; a long one as JSON, which is YAML as well."""
    # Imported here because few servers have a script.
    import yaml

    content = script.model_dump(mode="json", exclude_unset=True)
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if len(script.replies) > LONG_SCRIPT_RULES or len(text) > LONG_SCRIPT_CHARS:
        return text
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return str(text)


def make_script(conversation: Conversation, output: ModelOutput, status: int | None) -> ReplyScript:
    """A script whose rule matches the conversation and repeats its answer or its error."""
    view = make_view(conversation.turns)
    match = {
        "text": view.latest[:MATCHED_TEXT_MAX],
        "tool": client_name(view.tool_result.name) if view.tool_result is not None else None,
    }
    # Only members with a value, so that the rule is written without the others.
    match = {name: value for name, value in match.items() if value}
    rule = Rule.model_validate({"match": match, "reply": _reply(output, status)})
    named = {client_name(each.name) for each in output.calls} | {rule.match.tool or ""}
    tools = sorted(named - AGENT_TOOL_NAMES - {""})
    # Not validated: it repeats what a model did, even if no script may.
    members: dict[str, Any] = {"tools": tools} if tools else {}
    return ReplyScript.model_construct(**members, replies=[rule])


def _reply(output: ModelOutput, status: int | None) -> dict[str, Any] | str:
    if status is not None and status >= 400:
        return {"error": status} | ({"message": output.error} if output.error else {})
    calls = [
        {"name": client_name(each.name), "arguments": dict(each.arguments)} for each in output.calls
    ]
    if not calls:
        return output.text
    return ({"text": output.text} if output.text else {}) | {"calls": calls}
