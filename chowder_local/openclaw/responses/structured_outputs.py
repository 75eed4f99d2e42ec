"""Structured outputs: an answer asked for as a function call, and turned back into text (pure).

OpenClaw's gateway knows no formats but text, and what providers have for them either excludes
an agent's own tools or is missing in older models. So the model is offered a function whose
arguments are the answer, and made to end with a call of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused
from chowder_local.openclaw.responses.validators import as_object, as_string
from chowder_local.relay.prompt_format.system_prompt import (
    ANSWER_TOOL,
    ANY_TOOL,
    ONE_AT_A_TIME,
    ONE_TOOL,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.openclaw.responses.tools import Offer

_TEXT_MEMBER = "json"
_ANY_OBJECT = {
    "type": "object",
    "properties": {
        _TEXT_MEMBER: {"type": "string", "description": "The answer: the text of a JSON object."}
    },
    "required": [_TEXT_MEMBER],
    "additionalProperties": False,
}
"""For an answer of any shape: some providers take no function whose arguments are not told."""

_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Format:
    """What an answer has to be: JSON that fits a schema, or any JSON object if there is none."""

    schema: Mapping[str, Any] | None = None
    description: str | None = None

    @property
    def tool(self) -> dict[str, Any]:
        """The function that the answer is asked for with."""
        text = "Gives your whole answer to the user, who sees nothing else of it."
        return {
            "type": "function",
            "name": ANSWER_TOOL,
            "description": f"{text} The answer: {self.description}" if self.description else text,
            "parameters": _ANY_OBJECT if self.schema is None else dict(self.schema),
        }

    def rule(self, offer: Offer) -> str:
        """What the model is told about it, beside a client's functions."""
        text = f"Give your answer to the user by calling the {ANSWER_TOOL} tool, and only so."
        if offer.tools and offer.mode == "auto":
            return f"{text} To call another function of the user's comes before that. {ANY_TOOL}"
        return f"{text} {ONE_AT_A_TIME} {ONE_TOOL.format(ANSWER_TOOL)}"

    def from_arguments(self, arguments: str) -> str:
        """The answer that is the function's arguments. Raises AnswerUnfit."""
        if self.schema is None:
            arguments = str(_parsed(arguments).get(_TEXT_MEMBER))
        return self._checked(arguments)

    def from_text(self, text: str) -> str | None:
        """An answer that was given as text; None if it is not JSON. Raises AnswerUnfit."""
        text = text.strip()
        if fenced := _FENCED.match(text):
            text = fenced[1].strip()
        return self._checked(text) if text.startswith("{") else None

    def _checked(self, text: str) -> str:
        answer = _parsed(text)
        if self.schema is not None and (problem := _misfit(self.schema, answer)):
            raise AnswerUnfit(f"The model's answer does not fit text.format.schema: {problem}")
        return text


def parse_format(text: Mapping[str, Any]) -> Format | None:
    """The format that a request's `text` asks for; None for text. Raises MessageRefused."""
    given = as_object(text.get("format"), "text.format")
    kind = given.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return Format()
    if kind != "json_schema":
        raise MessageRefused(f"text.format: {kind!r} is none of text, json_object, json_schema.")
    if isinstance(given.get("json_schema"), dict):
        # As Chat Completions writes it.
        given = given["json_schema"]
    if given.get("schema") is None:
        raise MessageRefused(
            "text.format: json_schema needs the answer's JSON schema as `schema`; for any JSON "
            "object without one, ask for json_object."
        )
    schema = as_object(given["schema"], "text.format.schema")
    _validator(schema)
    description = given.get("description") or ""
    return Format(_rooted(schema), as_string(description, "text.format.description") or None)


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with an object's at its root, where a function's arguments need one."""
    root = schema
    reference = str(schema.get("$ref", ""))
    if found := re.fullmatch(r"#/(\$defs|definitions)/([^/]+)", reference):
        below = schema.get(found[1], {}).get(found[2])
        if isinstance(below, dict):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            root = {**below, **rest}
    if root.get("type") != "object":
        raise MessageRefused("text.format.schema: its root must be of type 'object'.")
    return root


def _parsed(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError as problem:
        shown = text[:_SHOWN_CHARACTERS]
        raise AnswerUnfit(f"The model's answer is not JSON ({problem}): {shown}") from None
    if not isinstance(answer, dict):
        raise AnswerUnfit("The model's answer is JSON, but not an object.")
    return answer


def _misfit(schema: Mapping[str, Any], answer: Any) -> str | None:
    """Why an answer does not fit; None if it does."""
    problem = next(_validator(schema).iter_errors(answer), None)
    if problem is None:
        return None
    where = "/".join(str(step) for step in problem.instance_path)
    return f"{where}: {problem.message}" if where else str(problem.message)


def _validator(schema: Mapping[str, Any]) -> Any:
    """What judges answers by a schema. Raises MessageRefused for one that cannot be understood."""
    # Loaded for those who ask for a format, not at every start.
    import jsonschema_rs

    def fetch(address: str) -> Any:
        # A client's schema must not make this server call other addresses.
        raise ValueError(f"{address} is outside of the schema")

    try:
        return jsonschema_rs.validator_for(dict(schema), retriever=fetch)
    except (ValueError, jsonschema_rs.ReferencingError) as problem:
        text = str(problem).splitlines()[0]
        raise MessageRefused(f"text.format.schema: it is not a JSON schema: {text}") from None
