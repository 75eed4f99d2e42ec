"""Translates a client's tools and tool choice for the gateway (pure).

The agent has its own tools. A provider's built-in tool is left out if the agent has an equivalent
(`AGENT_BUILT_INS`); any other tool that is not a function is refused. A function gets another name
at the gateway if the agent has a tool of that name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.core.errors.requests import SHOWN_CHARACTERS
from chowder_local.openclaw.responses.validators import as_array, as_object, pick
from chowder_local.relay.prompt_format.system_prompt import ONE_AT_A_TIME
from chowder_local.relay.prompt_format.tool_names import gateway_names

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
