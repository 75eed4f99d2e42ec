"""OpenClaw's own texts in model calls: prompts, tool names, wrapped messages, errors (pure)."""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

from cachetools import FIFOCache

from chowder_local.core import untrusted_json
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, ToolResult, UserMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from chowder_local.core.domain import SandboxId
    from chowder_local.core.errors import ChowderError
    from chowder_local.relay.wire.conversation import Conversation, PromptTurn

LONGEST_NAME = 200
"""Longer names of models and sessions are not real ones and would only fill the store."""

ANSWER_TOOL = "final_answer"
"""The function by which a structured output is requested."""

ANY_TOOL = "You must call one of the available tools before responding."
ONE_TOOL = "You must call the {} tool before responding."
ONE_AT_A_TIME = "Call at most one tool at a time."
TOOL_RULE_MARKS = (b"before responding.", ONE_AT_A_TIME.encode())
"""Each request whose system prompt restricts the choice of tools contains one of these."""

HANDED_OVER = "Tool execution delegated to client"
"""OpenClaw's placeholder for the result of a function that the client has to call."""

SUMMARIZER = "You are a context summarization assistant."
"""In the system prompt of each request for a summary of a part of a conversation."""
SAVING_SESSION = ":internal-session-effects:"
"""In the key of each session in which an agent saves what it has to remember."""

JOB_SESSIONS = "agent:main:cron:"
"""How the keys of the sessions begin in which scheduled jobs run; the job's id follows."""

_DEMAND = re.compile(r"You must call (?:the (\S+) tool|one of the available tools) before resp")
_RUNTIME_MARK = b"Runtime: agent="
# The key has no quotes, line ends or backslashes, so that it is the same in JSON and in text.
# That of a scheduled job has no id: each of its runs begins a memory of its own.
_RUNTIME = re.compile(
    r"Runtime: agent=[^|\"\\\n]* \| session=(?P<key>[^\"\\\n]+?)"
    r" \| (?:sessionId=(?P<id>[\w-]*)|host=)"
)
_TOOLING = "\n## Tooling\n"
_MAX_TOOLING = 64_000
_OWN_TOOL = re.compile(r"^- (\S+?)(?=[:\s]|$)", re.MULTILINE)


class PromptSession(NamedTuple):
    """OpenClaw's key of a session, and the id of its current memory; empty if it is not told."""

    key: str
    id: str

    @property
    def job_id(self) -> str | None:
        """The scheduled job whose session it is."""
        job = self.key.removeprefix(JOB_SESSIONS)
        return None if job == self.key else job.partition(":")[0]


def find_session(body: bytes, read_system_prompt: Callable[[], str]) -> PromptSession | None:
    """The session of a model request; None if its system prompt does not name one.

    OpenClaw's system prompt ends with a line about its runtime. If the body has several such lines,
    because a message quotes one, the system prompt is parsed, which takes longer.
    """
    first = body.find(_RUNTIME_MARK)
    if first < 0:
        return None
    if body.find(_RUNTIME_MARK, first + 1) < 0:
        # A line of ours is ASCII up to the end of its key.
        text = body[first : first + 4 * LONGEST_NAME].decode("utf-8", "replace")
    else:
        system = read_system_prompt()
        text = system[max(0, system.rfind(_RUNTIME_MARK.decode())) :][: 4 * LONGEST_NAME]
    match = _RUNTIME.match(text)
    if match is None or len(match["key"]) > LONGEST_NAME:
        return None
    return PromptSession(match["key"], match["id"] or "")


class TurnKind(StrEnum):
    """What began a turn; all but `message` are unasked turns, which no client's message began."""

    MESSAGE = "message"
    JOB = "job"
    HEARTBEAT = "heartbeat"
    SUBAGENT = "subagent"
    HOOK = "hook"
    CHANNEL = "channel"
    OTHER = "other"


class TurnOrigin(NamedTuple):
    """What began a turn, as OpenClaw's text for the model says it."""

    kind: TurnKind
    job_id: str | None = None
    job: str | None = None
    """The job's name. OpenClaw does not name a job that runs in the main session."""
    channel: str | None = None
    """The messenger in which somebody has said something."""


_SCANNED_BYTES = 1024 * 1024
"""The end of a request that is searched for its origin, so that a long one costs no more."""
_ROLE = b'"role":"'
_USER = b'user"'
_ITEMS = 8
"""So many of a user's latest items are looked at: OpenClaw adds some of its own below a text."""
_FIRST_TEXT = re.compile(rb'"(?:text|content)":"')
_HEAD_BYTES = 200
"""In so many bytes an item's first text begins."""
_BEGINNING = re.compile(
    rb"(?P<time>\[[A-Z][a-z]{2} \d{4}-\d\d-\d\d [^\]\"\n]{1,40}\] )?"
    rb"(?:(?P<job>\[cron:(?P<id>[\w-]{1,80}) (?P<name>(?:[^\]\\\"]|\\.){0,400})\])"
    rb"|(?P<reminder>A scheduled (?:reminder|cron event) )"
    rb"|(?P<hook>Job ID: )"
    rb"|(?P<subagent>\[Subagent Context\]|A background task )"
    rb"|(?P<heartbeat>Follow the heartbeat |Read HEARTBEAT\.md |An async command )"
    rb"|(?P<client>(?(time)|(?!))))"
)
"""How OpenClaw's own texts begin. Before a client's text there is only the time in brackets."""
_CHANNEL = re.compile(rb"[^\"\\\n]* \| channel=([\w-]+)")
"""What follows the mark of a line that names its channel."""
_API_CHANNEL = b"webchat"
"""The channel of clients' messages, and of the turns that follow from them."""
_HOOK_EVENT = b"] Hook "
"""In a system event that says what a hook's turn has answered."""


def marked_origin(body: bytes) -> TurnOrigin | None:
    """The origin of a turn whose first model request has a text of OpenClaw's own; else None."""
    tail = body[-_SCANNED_BYTES:]
    at = len(tail)
    for _ in range(_ITEMS):
        at = tail.rfind(_ROLE, 0, at)
        if at < 0 or not tail.startswith(_USER, at + len(_ROLE)):
            break
        # In Gemini's format an item's role comes after its texts.
        is_last = tail.startswith(b",", at - 1)
        head = max(0, tail.rfind(_ROLE, 0, at)) if is_last else at
        text = _FIRST_TEXT.search(tail, head, head + _HEAD_BYTES)
        if text is not None and (found := _BEGINNING.match(tail, text.end())):
            return _origin(found)
    return None


def _origin(found: re.Match[bytes]) -> TurnOrigin | None:
    """What the beginning of a text says; None if the text is a client's."""
    if found["client"] is not None:
        return None
    if found["job"]:
        name = json.loads(b'"' + found["name"] + b'"', strict=False)
        return TurnOrigin(TurnKind.JOB, found["id"].decode(), name)
    if found["reminder"]:
        return TurnOrigin(TurnKind.JOB)
    if found["heartbeat"] and found.string.find(_HOOK_EVENT, found.end()) >= 0:
        return TurnOrigin(TurnKind.HOOK)
    names = ("hook", "subagent", "heartbeat")
    return TurnOrigin(TurnKind(next(each for each in names if found[each])))


def find_origin(body: bytes, session_key: str | None) -> TurnOrigin:
    """The origin of a turn that no client's message began, from its first model request."""
    if (origin := marked_origin(body)) is not None:
        return origin
    if is_subagent(session_key):
        return TurnOrigin(TurnKind.SUBAGENT)
    channel = _last_channel(body[-_SCANNED_BYTES:])
    if channel is not None and channel != _API_CHANNEL:
        return TurnOrigin(TurnKind.CHANNEL, channel=channel.decode())
    # A heartbeat's text can be a setting. It is the only turn of a conversation without a channel.
    is_of_openclaw = channel is None and not is_side_task(session_key)
    return TurnOrigin(TurnKind.HEARTBEAT if is_of_openclaw else TurnKind.OTHER)


def _last_channel(tail: bytes) -> bytes | None:
    """The channel of the last line about a runtime that names one."""
    # By parts, each of which is read once: a search would begin anew at each mark of one line.
    for part in reversed(tail.split(_RUNTIME_MARK)[1:]):
        if match := _CHANNEL.match(part):
            return match[1]
    return None


def is_side_task(session_key: str | None) -> bool:
    """Whether a call is OpenClaw's own work on a conversation, such as a summary of it."""
    return session_key is None or SAVING_SESSION in session_key


def is_subagent(session_key: str | None) -> bool:
    """Whether a session is a sub-agent's own, whose answers only its agent reads."""
    return session_key is not None and ":subagent:" in session_key


_REPORT = b"A background task "
_SUBAGENT = re.compile(rb"\bagent:[\w-]+:subagent:[0-9a-f-]{36}")


def reported_subagents(body: bytes) -> list[str]:
    """OpenClaw's keys of the sub-agents whose results a model request is to report."""
    tail = body[-_SCANNED_BYTES:]
    start = tail.rfind(_REPORT)
    keys = (each.decode() for each in _SUBAGENT.findall(tail, start)) if start >= 0 else ()
    return list(dict.fromkeys(keys))


_SILENCE = re.compile(
    r"\A\W{0,8}(?:NO_REPLY|HEARTBEAT_OK)\b\W{0,8}|\b(?:NO_REPLY|HEARTBEAT_OK)\W{0,8}\Z"
)
"""By these words an agent answers that it has nothing to say."""
LONGEST_ACKNOWLEDGEMENT = 300
"""So many characters beside HEARTBEAT_OK count as nothing: OpenClaw's default."""


def spoken_text(answer: str, kind: TurnKind) -> str:
    """What an agent says by an answer to an unasked turn; empty if it says that it has nothing."""
    text, count = _SILENCE.subn("", answer.strip())
    text = text.strip()
    is_acknowledgement = count and kind is TurnKind.HEARTBEAT and "HEARTBEAT_OK" in answer
    return "" if is_acknowledgement and len(text) <= LONGEST_ACKNOWLEDGEMENT else text


def find_tool_demand(system: str) -> tuple[bool, str | None]:
    """Whether a system prompt demands a tool call, and the tool if it names one."""
    match = _DEMAND.search(system)
    return match is not None, match and match[1]


def own_tools(system: str) -> set[str] | None:
    """Names of the agent's own tools; None if OpenClaw's system prompt does not list them."""
    # A system prompt can have megabytes, for which a regular expression takes too long.
    _, heading, section = f"\n{system}".partition(_TOOLING)
    if heading:
        return set(_OWN_TOOL.findall(section[:_MAX_TOOLING].partition("\n## ")[0]))
    return None if "OpenClaw" in system else set()


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


_INTERNAL = re.compile(
    r"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>.*?(?:<<<END_OPENCLAW_INTERNAL_CONTEXT>>>|\Z)", re.DOTALL
)
_RUNTIME_END = re.compile(r"\n\nRuntime: agent=[^\n]*\Z")
_TIMESTAMP = re.compile(r"\A\[[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? [^\]\n]+\] ?")
_CONTEXT_MARK = "⟦openclaw:ctx⟧"
"""The end of each line above a block that OpenClaw writes above what somebody says in a messenger.

The block is JSON in a fence, or goes to a blank line. OpenClaw removes the mark from users' texts.
"""
_QUEUED = re.compile(r"\A(?:\[Queued user message [^\]\n]*\]\n)+")
_HISTORY = re.compile(
    r"\A(?:\[(?:Chat messages since your last reply|Recent chat messages) - for context\]\n"
    r"(?P<history>.*)\n\n)?\[Current message - respond to this\]\n(?P<current>.*)\Z",
    re.DOTALL,
)
_COMPACTED = (
    "The previous attempt compacted the conversation context before producing a final "
    "user-visible answer. Continue from the compacted transcript"
)
_NUDGES = (
    "The previous attempt did not produce a user-visible answer. Continue from the current state",
    "The previous assistant turn recorded reasoning but did not produce a user-visible answer. ",
    "The previous assistant turn completed its tool calls but did not produce a user-visible "
    "answer. ",
    _COMPACTED,
    "Before accepting the previous final answer, apply this revision request and produce the "
    "revised final answer. ",
    "Continue the current task from the existing transcript, preserving completed work. ",
)
"""Messages that OpenClaw writes in the user's name to repeat a call without visible answer."""
_ABORTED = re.compile(r"\A<turn_aborted>\n.*\n</turn_aborted>\Z", re.DOTALL)
"""A message in which OpenClaw says that the turn before was interrupted."""
_NUDGE = re.compile(
    # Only the one about compaction follows the user's text; the others stand alone.
    rf"(?:\A(?:{'|'.join(map(re.escape, _NUDGES))})|\n\n{re.escape(_COMPACTED)}).*\Z",
    re.DOTALL,
)
_JOB = re.compile(r"\A\[cron:\S{1,200} (?P<name>[^\n]*?)\] ")
"""What OpenClaw writes before a scheduled job's message."""
_JOB_END = "\nCurrent time: "
"""How that begins which OpenClaw writes below it."""
_QUOTED_CHARACTERS = 200
_SPEAKER = re.compile(r"^(User|Assistant|Tool:\S+): ", re.M)
_RENDERED_CALL = re.compile(r"\Atool_call id=(\S*) name=(\S+) arguments=(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class ModelRequest:
    """A model request, reduced to what users and tools wrote: what scripts and replies go by."""

    provider: str
    model: str
    turn: int
    """The number of user messages in the conversation."""
    text: str
    """The latest user message; empty if there is none."""
    round: int = 0
    """The number of rounds of tool results since that message; those of one answer are one."""
    called: str | None = None
    """The tool whose result came last since that message, by the model's name for it."""
    result: str | None = None
    session: str | None = None
    """Name of the session; None is the main session."""
    is_session_known: bool = False
    """False for a turn that a messenger began, for example."""
    digest: str = ""
    """Source of the ids in the answer, the same for equal requests."""
    text_before: str = ""
    """The user message before the latest."""
    job: str | None = None
    """Name of the scheduled job that the latest user message is of."""

    @classmethod
    def from_conversation(
        cls,
        conversation: Conversation,
        provider: str = "",
        session: str | None = None,
        *,
        is_session_known: bool = False,
    ) -> Self:
        """The request of a conversation, without what OpenClaw adds to it."""
        messages: list[str] = []
        names: dict[str, str] = {}
        called = result = None
        latest_tool = ""
        rounds = 0
        is_in_round = False
        for turn in unfold(conversation.turns):
            if isinstance(turn, UserMessage):
                messages.append(turn.parts[0])
                called, result, rounds, is_in_round = None, None, 0, False
            elif isinstance(turn, ToolResult):
                # The client sees another call id than the model, so the name may be unknown.
                called = turn.name or names.get(turn.call_id) or latest_tool or turn.call_id
                result = turn.text
                if not is_in_round and HANDED_OVER not in turn.text:
                    rounds, is_in_round = rounds + 1, True
            else:
                is_in_round = False
                if isinstance(turn, ToolCall):
                    names[turn.id] = latest_tool = turn.name
        before, text = ["", "", *messages][-2:]
        return cls(
            provider,
            conversation.model,
            len(messages),
            text,
            rounds,
            called,
            result,
            session,
            is_session_known,
            conversation.digest,
            before,
            _find_job(conversation.turns),
        )

    @property
    def tool(self) -> str | None:
        """The client's name of the tool."""
        return None if self.called is None else client_name(self.called)

    @cached_property
    def folded_text(self) -> str:
        """The case-folded text, cached because each rule compares it."""
        return self.text.casefold()

    @cached_property
    def folded_result(self) -> str:
        return (self.result or "").casefold()

    def __str__(self) -> str:
        where = ""
        if self.is_session_known:
            where = " in the main session" if self.session is None else f" in {self.session!r}"
        if self.job is not None:
            where = f" of the job {_quoted(self.job)}"
        description = f"turn {self.turn}{where}, {_quoted(self.text)}"
        if self.tool is not None:
            description += f", after {self.tool} returned {_quoted(self.result or '')}"
        return f"{description}, model {self.model}"


def _quoted(text: str) -> str:
    cut = text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…"
    return f'"{cut}"'


def clean(part: str) -> str:
    """The user's own text in a part of a message; empty if it has none."""
    text = _RUNTIME_END.sub("", _INTERNAL.sub("", part)).strip()
    text = _without_context(_TIMESTAMP.sub("", text))
    if job := _JOB.match(text):
        text = text[job.end() :]
        text = text[: text.rfind(_JOB_END) if _JOB_END in text else None]
    return _ABORTED.sub("", _NUDGE.sub("", text)).strip()


def _find_job(turns: Sequence[PromptTurn]) -> str | None:
    """The name of the scheduled job that the latest message of a user is of."""
    for turn in reversed(turns):
        if isinstance(turn, UserMessage) and any(map(clean, turn.parts)):
            found = filter(None, (_JOB.match(each.lstrip()) for each in turn.parts))
            return next((each["name"] for each in found), None)
    return None


def _without_context(text: str) -> str:
    """The text below OpenClaw's blocks; empty if the last of them has no end."""
    start = 0
    while (end := text.find("\n", start)) > 0 and text[start:end].endswith(_CONTEXT_MARK):
        fence = "\n```" if text.startswith("```", end + 1) else "\n\n"
        end = text.find(fence, end + 1)
        if end < 0:
            return ""
        start = end + len(fence)
        while text.startswith("\n", start):
            start += 1
    return text[start:]


def unfold(turns: Iterable[PromptTurn]) -> Iterator[PromptTurn]:
    """The turns before OpenClaw's gateway folded them into one user message.

    A client's history and tool results arrive as lines `User: …`, `Assistant: …`, `Tool:id: …`.
    Messages without text of the user are left out.
    """
    for turn in turns:
        if not isinstance(turn, UserMessage):
            yield turn
            continue
        text = "\n".join(filter(None, map(clean, turn.parts)))
        if _QUEUED.match(text):
            # An unanswered message before the current one. Nothing marks its end: a blank line is
            # taken for it, so that nothing of the current one is lost.
            queued, _, text = _QUEUED.sub("", text).partition("\n\n")
            yield UserMessage((queued,))
        if folded := _HISTORY.match(text):
            yield from _lines(folded["history"] or "")
            yield from _lines(folded["current"])
        elif text.startswith("Tool:"):
            yield from _lines(text)
        elif text:
            yield UserMessage((text,))


def _lines(text: str) -> Iterator[PromptTurn]:
    # re.split with one group returns: before, speaker, text, speaker, text, …
    before, *lines = _SPEAKER.split(text)
    if before.strip():
        yield UserMessage((before.strip(),))
    for speaker, text in zip(lines[::2], lines[1::2], strict=True):
        yield _read_line(speaker, text.removesuffix("\n"))


def _read_line(speaker: str, text: str) -> PromptTurn:
    if speaker == "User":
        return UserMessage((text,))
    if speaker.startswith("Tool:"):
        return ToolResult(speaker.removeprefix("Tool:"), text)
    if call := _RENDERED_CALL.match(text):
        try:
            arguments = untrusted_json.read_object(call[3])
        except ValueError:
            arguments = {}
        return ToolCall(call[1], call[2], arguments)
    return AssistantText(text)


PREFIX = "relay-failure-"
"""How each marker begins."""
_MARKER = re.compile(f"({PREFIX}[0-9a-f]{{32}})(?:-([a-p]*))?")
_FROM_HEX = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_TO_HEX = str.maketrans("abcdefghijklmnop", "0123456789abcdef")
_MESSAGE_MAX_BYTES = 600


class _Entry(NamedTuple):
    failure: ChowderError
    sandbox_id: SandboxId | None
    at_s: float


class FailureMarkers:
    """The latest failures by marker. Markers cannot be guessed."""

    def __init__(self, capacity: int = 1024, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._entries: FIFOCache[str, _Entry] = FIFOCache(capacity)

    def remember(self, failure: ChowderError, sandbox_id: SandboxId | None) -> str:
        """The marker of a failure, which is kept until newer ones displace it.

        The marker contains the message, too, because transcripts outlive this memory. Without a
        sandbox the failure is found by its marker only.
        """
        marker = PREFIX + secrets.token_hex(16)
        self._entries[marker] = _Entry(failure, sandbox_id, self._clock_s())
        return f"{marker}-{_encode(str(failure))}"

    def forget(self, marker: str) -> None:
        """Drops a failure that has turned out to be none."""
        self._entries.pop(marker[: len(PREFIX) + 32], None)

    def find(self, text: str) -> ChowderError | None:
        """The failure of the last known marker in a text."""
        for marker, _ in reversed(_MARKER.findall(text)):
            if entry := self._entries.get(marker):
                return entry.failure
        return None

    def latest(self, sandbox_id: SandboxId, since_s: float) -> ChowderError | None:
        """The sandbox's newest failure that is not older than `since_s` on the same clock.

        For errors that OpenClaw replaces by its own: it reports "408 upstream provider timeout" if
        a stream breaks off, and "500 internal error" if it cannot shorten a prompt.
        """
        for entry in reversed(list(self._entries.values())):
            if entry.at_s < since_s:
                return None
            if entry.sandbox_id == sandbox_id:
                return entry.failure
        return None


def read_marked_message(text: str) -> str | None:
    """The message in the last marker of a text; None if no marker has one."""
    encoded = [letters for _, letters in _MARKER.findall(text) if letters]
    if not encoded:
        return None
    # The text may be cut off within the marker.
    letters = encoded[-1][: len(encoded[-1]) // 2 * 2]
    return bytes.fromhex(letters.translate(_TO_HEX)).decode("utf-8", "ignore")


def _encode(message: str) -> str:
    """The message in letters that OpenClaw cannot interpret.

    It searches errors for words and numbers, and blocks a provider for some of them.
    """
    content = message.encode("utf-8", "replace")[:_MESSAGE_MAX_BYTES]
    return content.hex().translate(_FROM_HEX)
