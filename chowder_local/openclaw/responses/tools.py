"""A client's tools and what it says of their use, as the gateway takes them (pure).

The agent has tools of its own, which it uses as it sees fit. So a provider's tool that the agent
can do itself is left out of a request (`AGENT_BUILT_INS`); any other that is not a function of
the client's cannot be honoured. A function that is called like a tool of the agent's goes by
another name there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.core.errors.requests import SHOWN_CHARACTERS
from chowder_local.openclaw.responses.validators import as_array, as_object, pick
from chowder_local.relay.prompt_format.system_prompt import ANSWER_TOOL, ONE_AT_A_TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AGENT_BUILT_INS = frozenset(
    {
        "code_interpreter", "web_search", "web_search_2025_08_26", "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)  # fmt: skip
"""Built-in tools for which the agent has its own: it can search the web and run programs."""

AGENT_TOOL_NAMES = frozenset(
    {
        "agents_list", "agents_wait", "apply-patch", "apply_patch", "ask_user", "automations",
        "bash", "browser", "canvas", "computer", "conversations_list", "conversations_send",
        "conversations_turn", "create_goal", "cron", "dashboard", "dir_fetch", "dir_list", "edit",
        "exec", "file_fetch", "file_write", "find", "gateway", "get_goal",
        "github_identity_status", "grep", "image", "image_generate", "intent", "ls", "memory_get",
        "memory_search", "message", "mobile_ui", "music_generate", "node_inference", "nodes",
        "openclaw", "pdf", "plugins", "portal", "process", "progress_card", "read", "secrets",
        "session_status", "sessions", "sessions_history", "sessions_list", "sessions_search",
        "sessions_send", "sessions_spawn", "sessions_yield", "skill_workshop", "subagents",
        "talk_voice", "terminal", "theme", "tool_call", "tool_describe", "tool_search", "tts",
        "update_goal", "video_generate", "view_image", "web_fetch", "web_search", "write",
        ANSWER_TOOL,
    }
)  # fmt: skip
"""Names that OpenClaw's own tools have, which refuses a request with one of them; and ours."""

_PREFIX = "client_"
# A function that says nothing of them is offered to no model.
_NO_PARAMETERS = {"type": "object", "properties": {}}
_MODES = ("auto", "none", "required")


class _Choice(NamedTuple):
    mode: str
    among: frozenset[str] | None = None
    is_pinned: bool = False


@dataclass(frozen=True)
class Offer:
    """The functions that a model may call, and whether it has to: `none`, `auto`, `required`.

    `pinned` is the one that has to be called; `names` leads from other names to the client's.
    """

    tools: list[dict[str, Any]]
    mode: str = "auto"
    pinned: str | None = None
    is_single: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_demanding(self) -> bool:
        """Whether an answer without a call is none."""
        return self.mode == "required"

    @property
    def choice(self) -> Any:
        return self.mode if self.pinned is None else {"type": "function", "name": self.pinned}

    @property
    def rule(self) -> str | None:
        """What the model is told about calls besides."""
        return ONE_AT_A_TIME if self.is_single and self.tools else None


def parse_tools(body: Mapping[str, Any]) -> Offer:
    """What a request says of tools. Raises MessageRefused."""
    given = [
        as_object(tool, "tools: a tool") for tool in as_array(body.get("tools") or [], "tools")
    ]
    tools = [tool for each in given if (tool := to_gateway_function(each)) is not None]
    _refuse_doubles(tool["name"] for tool in tools)
    choice = _choice(body.get("tool_choice"))
    if choice.among is not None:
        tools = [tool for tool in tools if tool["name"] in choice.among]
    if choice.mode == "required" and not tools:
        raise MessageRefused("tool_choice: it demands a function that is not among the tools.")
    names = _other_names(tool["name"] for tool in tools)
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
    """A function as the gateway takes it; None for a tool that is left to the agent.

    Raises MessageRefused for one that cannot be honoured.
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
        # As Chat Completions writes it.
        tool = tool["function"]
    return {"type": "function"} | pick(tool, "name", "description", "parameters", "strict")


def _refuse_doubles(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise MessageRefused(f"tools: there are two functions called {name!r}.")
        seen.add(name.lower())


def _choice(given: Any) -> _Choice:
    if given is None or given in _MODES:
        return _Choice(given or "auto")
    if isinstance(given, str):
        raise MessageRefused(
            f"tool_choice: {given[:SHOWN_CHARACTERS]!r} is none of {', '.join(_MODES)}; an object "
            'names a function: {"type": "function", "name": "…"}.'
        )
    choice = as_object(given, "tool_choice")
    # Chat Completions has the same one level deeper.
    inner = choice.get(str(choice.get("type")))
    inner = inner if isinstance(inner, dict) else choice
    if choice.get("type") == "function" and isinstance(inner.get("name"), str):
        return _Choice("required", frozenset({inner["name"]}), is_pinned=True)
    if choice.get("type") == "allowed_tools":
        tools = as_array(inner.get("tools") or [], "tool_choice: tools")
        functions = [to_gateway_function(as_object(tool, "tool_choice: a tool")) for tool in tools]
        among = frozenset(str(each.get("name")) for each in functions if each is not None)
        return _Choice("required" if inner.get("mode") == "required" else "auto", among)
    raise MessageRefused(
        "tool_choice: understood are 'auto', 'none', 'required', a function, and allowed_tools."
    )


def _other_names(names: Iterable[str]) -> dict[str, str]:
    """For each name that is taken, another that is not."""
    known = list(names)
    others: dict[str, str] = {}
    for name in known:
        if name.lower() in AGENT_TOOL_NAMES:
            other = _PREFIX + name
            while other in known:
                other = _PREFIX + other
            others[name] = other
    return others
