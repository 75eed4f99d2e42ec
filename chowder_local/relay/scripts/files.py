"""Reply scripts as text: parses YAML or JSON with the line of each problem, and writes scripts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.untrusted_json import written_path
from chowder_local.relay.prompt_format import AGENT_TOOL_NAMES, ModelRequest, client_name
from chowder_local.relay.scripts.rules import ReplyScript, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chowder_local.relay.wire.conversation import Conversation
    from chowder_local.relay.wire.wire_format import ModelOutput


@dataclass(frozen=True)
class ScriptProblem:
    """A problem, its place in the script such as `replies.0.reply`, and its line if known."""

    message: str
    place: str = ""
    line: int | None = None


class TextInvalid(Exception):
    """A text is not valid YAML, or not a valid script."""

    def __init__(self, problems: Sequence[ScriptProblem], *, is_yaml: bool = True) -> None:
        super().__init__("; ".join(f"{each.place}: {each.message}" for each in problems))
        self.problems = problems
        self.is_yaml = is_yaml


def read_file(path: Path) -> ReplyScript:
    """The script in a file; blocks. Raises SettingsInvalid if it is unreadable or invalid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The replies in {path} cannot be read: {error}") from None
    try:
        return parse(text)
    except TextInvalid as invalid:
        problems = "\n".join(f"  {_locate(path, each)}" for each in invalid.problems)
        cause = "are invalid" if invalid.is_yaml else "are not valid YAML"
        raise SettingsInvalid(f"The replies in {path} {cause}:\n{problems}") from None


def _locate(path: Path, problem: ScriptProblem) -> str:
    """A problem as `path:line: place: message`, which editors can jump to."""
    where = str(path) if problem.line is None else f"{path}:{problem.line}"
    return ": ".join(filter(None, (where, problem.place, problem.message)))


def parse(text: str) -> ReplyScript:
    """The script in a text; takes seconds for megabytes. Raises TextInvalid if it is invalid."""
    # Imported here because few servers have a script.
    from chowder_local.core import untrusted_yaml

    try:
        node = untrusted_yaml.compose(text)
        content = untrusted_yaml.construct(node)
    except untrusted_yaml.YamlInvalid as invalid:
        raise TextInvalid([ScriptProblem(str(invalid), "", invalid.line)], is_yaml=False) from None
    # A list of rules alone is a script, too.
    script = {"replies": content} if isinstance(content, list) else content or {}
    try:
        return ReplyScript.model_validate(script)
    except ValidationError as invalid:
        head = ("replies",) if isinstance(content, list) else ()
        problems = [
            ScriptProblem(
                message=problem["msg"],
                place=".".join(map(str, written_path(script, problem["loc"], problem["type"]))),
                line=untrusted_yaml.line_of(node, problem["loc"][len(head) :]),
            )
            for problem in invalid.errors()
        ]
        raise TextInvalid(problems) from None


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
    request = ModelRequest.from_conversation(conversation)
    match = {"text": request.text[:MATCHED_TEXT_MAX], "tool": request.tool}
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
