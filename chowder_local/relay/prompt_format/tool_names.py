"""Names of tools: the agent's own, their aliases, and those of a client's functions (pure).

OpenClaw refuses a client's function that is called like one of its own tools, so such a function
has a prefix at the gateway. Most of the agent's tools are not among those that it offers a model;
its system prompt lists them, and a model can call them as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chowder_local.relay.prompt_format.system_prompt import ANSWER_TOOL, own_tools

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.relay.wire.conversation import Conversation

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
"""Names of OpenClaw's own tools, which it refuses in a request, and of ours."""

ALIASES = {"apply-patch": "apply_patch", "bash": "exec", "cron": "automations"}
"""Names that OpenClaw's configuration and documents use for tools of other names."""

_PREFIX = "client_"
_PREFIXES = re.compile(f"\\A(?:{_PREFIX})+")
# Tools of MCP servers are never listed, and a long list is cut.
_UNLISTED = " additional tools omitted. "
_SHOWN_CHARACTERS = 2000


def gateway_names(client_names: Iterable[str]) -> dict[str, str]:
    """Unused names for functions that are called like an agent's tool, by the client's names."""
    names = set(client_names)
    renamed: dict[str, str] = {}
    for name in names:
        if name.lower() in AGENT_TOOL_NAMES:
            other = _PREFIX + name
            while other in names:
                other = _PREFIX + other
            renamed[name] = other
    return renamed


def client_name(name: str) -> str:
    """The client's name of a function that `gateway_names` has renamed; others stay."""
    original = _PREFIXES.sub("", name)
    return original if original.lower() in AGENT_TOOL_NAMES else name


def is_same_tool(name: str, other: str) -> bool:
    """Whether two names are of one tool: by an alias, or with and without the client's prefix."""
    first, second = client_name(name), client_name(other)
    return ALIASES.get(first, first) == ALIASES.get(second, second)


class CallableTools:
    """The tools that a model can call for one request, by all of their names."""

    def __init__(self, conversation: Conversation) -> None:
        listed = own_tools(conversation.system) or set()
        offered = {each.name for each in conversation.tools}
        # The longest name comes last: a renamed function has the most prefixes.
        self._functions = {client_name(each): each for each in sorted(offered - listed, key=len)}
        self._names = offered | listed
        self.is_complete = bool(listed) and _UNLISTED not in conversation.system
        """Whether there are no others."""

    def find(self, name: str) -> str | None:
        """The name to call a tool by; of equal names a client's function comes first."""
        alias = ALIASES.get(name, name)
        found = self._functions.get(name) or (name if name in self._names else alias)
        return found if found in self._names else None

    def __str__(self) -> str:
        functions = set(self._functions.values())
        theirs = ", ".join(sorted(self._functions))[:_SHOWN_CHARACTERS] or "none"
        own = ", ".join(sorted(self._names - functions))[:_SHOWN_CHARACTERS]
        return f"The client's functions: {theirs}. The agent's tools: {own}."
