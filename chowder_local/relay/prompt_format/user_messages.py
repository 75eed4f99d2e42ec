"""Extracts what users and tools wrote from conversations that OpenClaw has wrapped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from chowder_local.core import untrusted_json
from chowder_local.relay.prompt_format.system_prompt import HANDED_OVER
from chowder_local.relay.prompt_format.tool_names import client_name
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, ToolResult, UserMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chowder_local.relay.wire.conversation import Conversation, Turn

_INTERNAL = re.compile(
    r"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>.*?(?:<<<END_OPENCLAW_INTERNAL_CONTEXT>>>|\Z)", re.DOTALL
)
_RUNTIME = re.compile(r"\n\nRuntime: agent=[^\n]*\Z")
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

    @classmethod
    def of(
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
        description = f"turn {self.turn}{where}, {_quoted(self.text)}"
        if self.tool is not None:
            description += f", after {self.tool} returned {_quoted(self.result or '')}"
        return f"{description}, model {self.model}"


def _quoted(text: str) -> str:
    cut = text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…"
    return f'"{cut}"'


def clean(part: str) -> str:
    """The user's own text in a part of a message; empty if it has none."""
    text = _RUNTIME.sub("", _INTERNAL.sub("", part)).strip()
    text = _without_context(_TIMESTAMP.sub("", text))
    return _ABORTED.sub("", _NUDGE.sub("", text)).strip()


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


def unfold(turns: Iterable[Turn]) -> Iterator[Turn]:
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


def _lines(text: str) -> Iterator[Turn]:
    # re.split with one group returns: before, speaker, text, speaker, text, …
    before, *lines = _SPEAKER.split(text)
    if before.strip():
        yield UserMessage((before.strip(),))
    for speaker, text in zip(lines[::2], lines[1::2], strict=True):
        yield _read_line(speaker, text.removesuffix("\n"))


def _read_line(speaker: str, text: str) -> Turn:
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
