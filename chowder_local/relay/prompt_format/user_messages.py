"""Extracts what users and tools wrote from conversations that OpenClaw has wrapped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import untrusted_json
from chowder_local.relay.prompt_format.system_prompt import HANDED_OVER
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, ToolResult, UserMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chowder_local.relay.wire.conversation import Turn

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
_SPEAKER = re.compile(r"^(User|Assistant|Tool:\S+): ", re.M)
_RENDERED_CALL = re.compile(r"\Atool_call id=(\S*) name=(\S+) arguments=(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class ConversationView:
    """The user messages, and the tool results since the latest of them."""

    messages: tuple[str, ...]
    tool_result: ToolResult | None
    rounds: int
    """Rounds of tool results; those of one answer are one round."""

    @property
    def latest(self) -> str:
        """The latest user message; empty if there is none."""
        return self.messages[-1] if self.messages else ""


def make_view(turns: Iterable[Turn]) -> ConversationView:
    """The view of a conversation, without what OpenClaw adds."""
    messages: list[str] = []
    names: dict[str, str] = {}
    tool_result: ToolResult | None = None
    latest_tool = ""
    rounds = 0
    is_in_round = False
    for turn in unfold(turns):
        if isinstance(turn, UserMessage):
            messages.append(turn.parts[0])
            tool_result, rounds, is_in_round = None, 0, False
        elif isinstance(turn, ToolResult):
            # The client sees another call id than the model, so the name may be unknown.
            name = turn.name or names.get(turn.call_id) or latest_tool or turn.call_id
            tool_result = ToolResult(turn.call_id, turn.text, name)
            if not is_in_round and HANDED_OVER not in turn.text:
                rounds, is_in_round = rounds + 1, True
        else:
            is_in_round = False
            if isinstance(turn, ToolCall):
                names[turn.id] = latest_tool = turn.name
    return ConversationView(tuple(messages), tool_result, rounds)


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
