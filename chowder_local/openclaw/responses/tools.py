"""A client's tools and structured outputs, which become function calls, for the gateway (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused
from chowder_local.core.errors.requests import SHOWN_CHARACTERS
from chowder_local.openclaw.responses.inputs import as_array, as_object, as_string, pick
from chowder_local.relay.prompt_format import (
    ANSWER_TOOL,
    ANY_TOOL,
    ONE_AT_A_TIME,
    ONE_TOOL,
    gateway_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AGENT_BUILT_INS = frozenset(
    {
        "code_interpreter", "web_search", "web_search_2025_08_26", "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)  # fmt: skip

"""Built-in tools with an equivalent in the agent: it can search the web and run programs."""

# OpenClaw does not offer a function without parameters to a model.
_NO_PARAMETERS = {"type": "object", "properties": {}}

_MODES = ("auto", "none", "required")


class _Choice(NamedTuple):
    mode: str
    allowed: frozenset[str] | None = None
    is_pinned: bool = False


@dataclass(frozen=True)
class Offer:
    """The functions that a model may call; `mode` is `none`, `auto` or `required`.

    `pinned` is the function that it must call. `names` has the client's names of renamed functions.
    """

    tools: list[dict[str, Any]]
    mode: str = "auto"
    pinned: str | None = None
    is_single: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_call_required(self) -> bool:
        """Whether the answer must have a call."""
        return self.mode == "required"

    @property
    def choice(self) -> Any:
        return self.mode if self.pinned is None else {"type": "function", "name": self.pinned}

    @property
    def rule(self) -> str | None:
        """An instruction to the model about calls."""
        return ONE_AT_A_TIME if self.is_single and self.tools else None


def parse_tools(body: Mapping[str, Any]) -> Offer:
    """Parses the tools and `tool_choice`. Raises MessageRefused if they cannot be honoured."""
    requested = [
        as_object(tool, "tools: a tool") for tool in as_array(body.get("tools") or [], "tools")
    ]
    tools = [tool for each in requested if (tool := to_gateway_function(each)) is not None]
    _refuse_duplicates(tool["name"] for tool in tools)
    choice = _choice(body.get("tool_choice"))
    if choice.allowed is not None:
        tools = [tool for tool in tools if tool["name"] in choice.allowed]
    if choice.mode == "required" and not tools:
        raise MessageRefused("tool_choice: it requires a function that is not among the tools.")
    names = gateway_names(tool["name"] for tool in tools)
    return Offer(
        tools=[
            {"parameters": _NO_PARAMETERS, **tool, "name": names.get(tool["name"], tool["name"])}
            for tool in tools
        ],
        mode=choice.mode,
        pinned=names.get(tools[0]["name"], tools[0]["name"]) if choice.is_pinned else None,
        is_single=body.get("parallel_tool_calls") is False,
        names={other: name for name, other in names.items()},
    )


def to_gateway_function(tool: Mapping[str, Any]) -> dict[str, Any] | None:
    """A function in the gateway's form; None for a built-in tool that the agent has.

    Raises MessageRefused if the agent does not have the built-in tool.
    """
    kind = tool.get("type")
    if kind in AGENT_BUILT_INS:
        return None
    if kind != "function":
        raise MessageRefused(
            f"tools: the built-in tool {kind!r} is not available; the agent has its own tools, "
            "and takes function tools."
        )
    if isinstance(tool.get("function"), dict):
        # The form of Chat Completions.
        tool = tool["function"]
    return {"type": "function"} | pick(tool, "name", "description", "parameters", "strict")


def _refuse_duplicates(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise MessageRefused(f"tools: there are two functions called {name!r}.")
        seen.add(name.lower())


def _choice(requested: Any) -> _Choice:
    if requested is None or requested in _MODES:
        return _Choice(requested or "auto")
    if isinstance(requested, str):
        raise MessageRefused(
            f"tool_choice: {requested[:SHOWN_CHARACTERS]!r} is none of {', '.join(_MODES)}; an "
            'object names a function: {"type": "function", "name": "…"}.'
        )
    choice = as_object(requested, "tool_choice")
    # Chat Completions nests it one level deeper.
    inner = choice.get(str(choice.get("type")))
    inner = inner if isinstance(inner, dict) else choice
    if choice.get("type") == "function" and isinstance(inner.get("name"), str):
        return _Choice("required", frozenset({inner["name"]}), is_pinned=True)
    if choice.get("type") == "allowed_tools":
        tools = as_array(inner.get("tools") or [], "tool_choice: tools")
        functions = [to_gateway_function(as_object(tool, "tool_choice: a tool")) for tool in tools]
        allowed = frozenset(str(each.get("name")) for each in functions if each is not None)
        return _Choice("required" if inner.get("mode") == "required" else "auto", allowed)
    raise MessageRefused(
        "tool_choice: it must be 'auto', 'none', 'required', a function, or allowed_tools."
    )


_TEXT_MEMBER = "json"
_ANY_OBJECT = {
    "type": "object",
    "properties": {
        _TEXT_MEMBER: {"type": "string", "description": "The answer: the text of a JSON object."}
    },
    "required": [_TEXT_MEMBER],
    "additionalProperties": False,
}
"""The parameters for any JSON object: some providers refuse a function without declared ones."""

_FENCE = "```"
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Format:
    """The format of an answer: JSON that fits a schema, or any JSON object without a schema."""

    schema: Mapping[str, Any] | None = None
    description: str | None = None

    @property
    def tool(self) -> dict[str, Any]:
        """The function whose arguments are the answer."""
        text = "Gives your whole answer to the user, who sees nothing else of it."
        return {
            "type": "function",
            "name": ANSWER_TOOL,
            "description": f"{text} The answer: {self.description}" if self.description else text,
            "parameters": _ANY_OBJECT if self.schema is None else dict(self.schema),
        }

    def rule(self, offer: Offer) -> str:
        """The instruction to the model to use the function."""
        text = f"Give your answer to the user by calling the {ANSWER_TOOL} tool, and only so."
        if offer.tools and offer.mode == "auto":
            return f"{text} To call another function of the user's comes before that. {ANY_TOOL}"
        return f"{text} {ONE_AT_A_TIME} {ONE_TOOL.format(ANSWER_TOOL)}"

    def from_arguments(self, arguments: str) -> str:
        """The answer from the function's arguments. Raises AnswerUnfit if it does not fit."""
        if self.schema is None:
            arguments = str(_parse(arguments).get(_TEXT_MEMBER))
        return self._check(arguments)

    def from_text(self, text: str) -> str | None:
        """The answer from a text; None if it is not JSON. Raises AnswerUnfit if it does not fit."""
        text = text.strip()
        opening, _, fenced = text.partition("\n")
        if opening.strip() in (_FENCE, f"{_FENCE}json") and fenced.endswith(f"\n{_FENCE}"):
            text = fenced.removesuffix(_FENCE).strip()
        return self._check(text) if text.startswith("{") else None

    def _check(self, text: str) -> str:
        answer = _parse(text)
        if self.schema is not None and (problem := _misfit(self.schema, answer)):
            raise AnswerUnfit(f"The model's answer does not fit text.format.schema: {problem}")
        return text


def parse_format(text: Mapping[str, Any]) -> Format | None:
    """The format in a request's `text`; None for text. Raises MessageRefused if unsupported."""
    requested = as_object(text.get("format"), "text.format")
    kind = requested.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return Format()
    if kind != "json_schema":
        raise MessageRefused(f"text.format: {kind!r} is none of text, json_object, json_schema.")
    if isinstance(requested.get("json_schema"), dict):
        # The form of Chat Completions.
        requested = requested["json_schema"]
    if requested.get("schema") is None:
        raise MessageRefused(
            "text.format: json_schema needs the answer's JSON schema as `schema`; request "
            "json_object for any JSON object."
        )
    schema = as_object(requested["schema"], "text.format.schema")
    _validator(schema)
    description = requested.get("description") or ""
    return Format(
        _with_object_root(schema), as_string(description, "text.format.description") or None
    )


def _with_object_root(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without a reference at its root. Raises MessageRefused if that is no object."""
    root = schema
    reference = str(schema.get("$ref", ""))
    if match := re.fullmatch(r"#/(\$defs|definitions)/([^/]+)", reference):
        target = schema.get(match[1], {}).get(match[2])
        if isinstance(target, dict):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            root = {**target, **rest}
    if root.get("type") != "object":
        raise MessageRefused("text.format.schema: its root must be of type 'object'.")
    return root


def _parse(text: str) -> dict[str, Any]:
    try:
        answer = untrusted_json.read(text, values_max=untrusted_json.VALUES_MAX)
    except ValueError as error:
        start = text[:_SHOWN_CHARACTERS]
        raise AnswerUnfit(f"The model's answer is not JSON ({error}): {start}") from None
    if not isinstance(answer, dict):
        raise AnswerUnfit("The model's answer is JSON, but not an object.")
    return answer


def _misfit(schema: Mapping[str, Any], answer: Any) -> str | None:
    """Why an answer does not fit; None if it does."""
    error = next(_validator(schema).iter_errors(answer), None)
    if error is None:
        return None
    path = "/".join(str(step) for step in error.instance_path)
    # The library's message quotes the value that does not fit.
    return untrusted_json.message_of(f"{path}: {error.message}" if path else str(error.message))


def _validator(schema: Mapping[str, Any]) -> Any:
    """A validator for answers. Raises MessageRefused if the schema is invalid."""
    # Imported when a format is requested, not at every start.
    import jsonschema_rs

    def fetch(address: str) -> Any:
        # A client's schema must not make this server call other addresses.
        raise ValueError(f"{address} is outside of the schema")

    try:
        return jsonschema_rs.validator_for(dict(schema), retriever=fetch)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        text = str(error).splitlines()[0]
        raise MessageRefused(f"text.format.schema: it is not a JSON schema: {text}") from None
