"""The offline model: a quote that proves memory, or a tool call with the smallest arguments."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from chowder_local.relay.prompt_format import (
    ANSWER_TOOL,
    ONE_AT_A_TIME,
    CallableTools,
    ModelRequest,
    find_tool_demand,
    own_tools,
)
from chowder_local.relay.wire.conversation import PromptTool, Reply, ToolCall, ToolChoice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.relay.wire.conversation import Conversation

_MAX_QUOTE = 2000
_MAX_SEARCHED = 64_000
"""The part of a message that is searched for calls and JSON objects."""
_MAX_CALLS = 16
_MAX_OBJECTS = 32
"""How many braces of a message are tried as the beginning of a JSON object."""
# The only argument of an answer tool that takes any JSON object, as a text.
_ANY_OBJECT = "json"
_CALL_REQUEST = re.compile(r"\bcall\s+[`'\"]?([A-Za-z_][\w.-]*)[`'\"]?\s*", re.IGNORECASE)


_MAX_DEPTH = 12
_MAX_STEPS = 2_000
"""How many values, or 64 characters of them, are made for a schema: references can multiply."""
_STEP_CHARACTERS = 64
_MAX_REFERENCE = 1_000
_MAX_FUNCTIONS = 1_000
_MAX_NAME = 200
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "url": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}")
_WORD = re.compile(r"[^\W\d_]{4,}")
_PHRASE = re.compile(r'"([^"\n]+)"|(?<=[a-z,] )([A-Z][\w-]+(?: [A-Z][\w-]*)*)')
"""A quotation, or a name within a sentence."""
_MAX_CHARACTERS = 10_000
"""The part of a message that is searched for words and names."""
_PLACEHOLDER = "text"


def decide(conversation: Conversation) -> Reply:
    """The reply; always the same for the same conversation."""
    request = ModelRequest.from_conversation(conversation)
    is_demanded, name = find_tool_demand(conversation.system)
    answer_tool = _find_tool(conversation, ANSWER_TOOL) if is_demanded else None
    choice = conversation.choice
    if is_demanded and choice.mode == "auto":
        choice = ToolChoice("required", name)
    if request.called is None:
        calls = tuple(
            _calls(conversation, request, choice, has_answer_tool=answer_tool is not None)
        )
        if calls:
            return Reply(calls=calls[:1] if ONE_AT_A_TIME in conversation.system else calls)
    # A structured answer that came back was rejected, and there is no other.
    if answer_tool is not None and request.called != ANSWER_TOOL:
        return Reply(calls=(_structured_answer(conversation, request, answer_tool),))
    return Reply(_answer(request))


def _answer(request: ModelRequest) -> str:
    text = f'[offline] Turn {request.turn}. You said: "{_quote(request.text)}"'
    if request.tool is not None:
        return f'{text} Tool {request.tool} answered: "{_quote(request.result or "")}"'
    if request.turn > 1:
        return f'{text} Before that: "{_quote(request.text_before)}"'
    return text


def _quote(text: str) -> str:
    return text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "…"


def _calls(
    conversation: Conversation, request: ModelRequest, choice: ToolChoice, *, has_answer_tool: bool
) -> Iterator[ToolCall]:
    if choice.mode == "none" or not conversation.tools or not request.turn:
        return
    message = request.text[:_MAX_SEARCHED]
    calls = list(islice(_requested_calls(conversation, message), _MAX_CALLS))
    if not calls and choice.name is None:
        calls = list(_matching_calls(conversation, message))
    if not calls and choice.mode == "required" and not has_answer_tool:
        tool = _find_tool(conversation, choice.name) or _first_client_tool(conversation)
        calls = [(tool, _first_object(message))]
    for number, (tool, arguments) in enumerate(calls):
        filled = minimal(tool.parameters) if arguments is None else arguments
        yield ToolCall(f"call_{conversation.digest[:22]}{number:02}", tool.name, filled)


def _requested_calls(
    conversation: Conversation, message: str
) -> Iterator[tuple[PromptTool, dict[str, Any] | None]]:
    tools, at = CallableTools(conversation), 0
    offered = {tool.name: tool for tool in reversed(conversation.tools)}
    while at >= 0 and (match := _CALL_REQUEST.search(message, at)):
        at = match.end(1)
        if name := tools.find(match[1].rstrip(".-")):
            tool = offered.get(name) or PromptTool(name)
            arguments, end = _object_at(message, match.end())
            yield tool, arguments
            at = message.find("\n", at if arguments is None else end)


def _matching_calls(
    conversation: Conversation, message: str
) -> Iterator[tuple[PromptTool, dict[str, Any] | None]]:
    functions = [each for each in client_functions(conversation) if each.name != ANSWER_TOOL]
    if tool := match_function(message, functions):
        values = _first_object(message)
        is_fit = values is not None and fits(tool.parameters, values)
        yield tool, values if is_fit else arguments_from(message, tool.parameters)


def _structured_answer(
    conversation: Conversation, request: ModelRequest, tool: PromptTool
) -> ToolCall:
    """A call with the object in the user's message if it fits, else with the smallest one."""
    arguments = minimal(tool.parameters)
    written = _first_object(request.text[:_MAX_SEARCHED])
    if list(arguments) == [_ANY_OBJECT]:
        answer = {"answer": _answer(request)} if written is None else written
        arguments = {_ANY_OBJECT: json.dumps(answer, ensure_ascii=False)}
    elif written is not None and fits(tool.parameters, written):
        arguments = written
    return ToolCall(f"call_{conversation.digest[:24]}", tool.name, arguments)


def _find_tool(conversation: Conversation, name: str | None) -> PromptTool | None:
    return next((tool for tool in conversation.tools if tool.name == name), None)


def _first_client_tool(conversation: Conversation) -> PromptTool:
    return (client_functions(conversation) or list(conversation.tools))[0]


def client_functions(conversation: Conversation) -> list[PromptTool]:
    """The tools that are not the agent's own, which OpenClaw lists in its system prompt."""
    own = own_tools(conversation.system)
    if own is None:
        # Without that list they cannot be distinguished.
        return []
    return [tool for tool in conversation.tools if tool.name not in own]


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The JSON object at a place, None if there is none, and the index of its end."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return (value, end) if isinstance(value, dict) else (None, start)


def _first_object(text: str) -> dict[str, Any] | None:
    for match in islice(re.finditer(r"\{", text), _MAX_OBJECTS):
        if (value := _object_at(text, match.start())[0]) is not None:
            return value
    return None


def match_function(message: str, functions: Iterable[PromptTool]) -> PromptTool | None:
    """The only function that has a word of four letters or more of its name in the message."""
    words = set(_WORD.findall(message[:_MAX_CHARACTERS].lower()))
    fitting = [each for each in islice(functions, _MAX_FUNCTIONS) if words & _words_of(each.name)]
    return fitting[0] if len(fitting) == 1 else None


def _words_of(name: str) -> set[str]:
    return {each.lower() for each in _WORD_OF_NAME.findall(name[:_MAX_NAME]) if len(each) > 3}


def arguments_from(message: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest arguments of a schema; names and quotations of the message fill its texts."""
    # Text within a JSON object of the message does not count.
    phrases = _PHRASE.finditer(message[:_MAX_CHARACTERS].partition("{")[0])
    arguments, properties = minimal(schema), schema.get("properties") or {}
    for name, value in arguments.items():
        is_free = value == _PLACEHOLDER and _is_free_text(properties.get(name))
        if is_free and (phrase := next(phrases, None)):
            arguments[name] = phrase[1] or phrase[2]
    return arguments


def _is_free_text(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.keys() <= {"type", "title", "description"}


def minimal(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the required properties, each with the simplest value of its type."""
    return _Values(schema).object(schema, _MAX_DEPTH)


def fits(schema: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether an object has all required and only known properties. Values are not checked."""
    properties = schema.get("properties") or {}
    return set(schema.get("required") or []) <= value.keys() <= properties.keys()


@dataclass(eq=False, repr=False)
class _Values:
    """Makes values for parts of one schema and resolves its references."""

    root: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._steps_left = _MAX_STEPS

    def _spend(self, characters: int = 0) -> bool:
        """Counts a step, and more for a long text; False if there are none left."""
        self._steps_left -= 1 + characters // _STEP_CHARACTERS
        return self._steps_left >= 0

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        names = dict.fromkeys((schema.get("required") or [])[:_MAX_STEPS])
        # Optional properties fill up to `minProperties`.
        missing = int(schema.get("minProperties") or 0) - len(names)
        others = (name for name in properties if name not in names)
        names |= dict.fromkeys(list(islice(others, max(0, min(missing, _MAX_STEPS)))))
        return {
            name: self.value(properties.get(name), depth - 1)
            for name in names
            if self._spend(len(name))
        }

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth <= 0 or not self._spend():
            return ""
        if "$ref" in schema:
            return self.value(self._referenced(str(schema["$ref"])), depth - 1)
        if fixed := [schema[key] for key in ("const", "default") if key in schema]:
            return self._fixed(fixed[0])
        if allowed := schema.get("enum") or schema.get("examples"):
            return self._fixed(allowed[0])
        if schemas := schema.get("anyOf") or schema.get("oneOf"):
            return self._one_of(schemas, depth)
        if schema.get("allOf"):
            return self.value(self._merged(schema), depth - 1)
        return self._of_type(schema, depth)

    def _fixed(self, value: Any) -> Any:
        return value if self._spend(len(json.dumps(value))) else ""

    def _referenced(self, reference: str) -> Any:
        part: Any = self.root
        if len(reference) > _MAX_REFERENCE:
            return None
        for step in reference.removeprefix("#").strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            part = part.get(name) if name and isinstance(part, dict) else part
        return part

    def _one_of(self, schemas: list[Any], depth: int) -> Any:
        self._spend(len(schemas))
        # A schema that refers to itself ends with null, if that is allowed.
        if depth <= _MAX_DEPTH // 2 and (simplest := [each for each in schemas if _is_null(each)]):
            schemas = simplest
        return self.value(schemas[0], depth - 1)

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {key: part for key, part in schema.items() if key != "allOf"}
        properties = dict(merged.get("properties", {}))
        required = dict.fromkeys(merged.get("required", []))
        for each in schema["allOf"]:
            part = self._referenced(str(each["$ref"])) if "$ref" in each else each
            own = part.get("properties", {})
            if not self._spend(len(own)):
                break
            properties |= own
            required |= dict.fromkeys(part.get("required", []))
            merged |= part
        if properties:
            merged |= {"properties": properties, "required": list(required)}
        return merged

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = kind[0] if kind else None
        # Gemini's schemas have types in capitals.
        kind = str(kind or ("object" if "properties" in schema else "string")).lower()
        if kind == "object":
            return self.object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in {"integer", "number"}:
            return _number(schema, is_whole=kind == "integer")
        simplest: dict[str, Any] = {"boolean": False, "null": None}
        return simplest[kind] if kind in simplest else self._text(schema)

    def _text(self, schema: Mapping[str, Any]) -> str:
        if example := _FORMATS.get(str(schema.get("format"))):
            return example
        text, length = _PLACEHOLDER[: schema.get("maxLength")], int(schema.get("minLength") or 0)
        return text.ljust(length, "x") if self._spend(length) else text

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        if before := schema.get("prefixItems"):
            return [self.value(each, depth - 1) for each in before[:_MAX_STEPS]]
        count = min(int(schema.get("minItems") or 0), max(0, self._steps_left))
        return [self.value(schema.get("items"), depth - 1) for _ in range(count)]


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _number(schema: Mapping[str, Any], *, is_whole: bool) -> Any:
    """The minimum if there is one; else 1, or the largest allowed number if 1 is too large."""
    step = schema.get("multipleOf") or (1 if is_whole else 0.5)
    if "minimum" in schema or "exclusiveMinimum" in schema:
        above = schema.get("exclusiveMinimum")
        at_least = schema.get("minimum", above if above is not None else 0)
        number = -(-at_least // step) * step
        return number + step if above is not None and number <= above else number
    number = step if step > 1 else 1
    if (at_most := schema.get("maximum")) is not None and number > at_most:
        number = at_most // step * step
    if (below := schema.get("exclusiveMaximum")) is not None and number >= below:
        number = -(-below // step) * step - step
    return number
