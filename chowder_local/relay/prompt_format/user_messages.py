"""Conversations freed of what OpenClaw puts around a person's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
"""How OpenClaw asks a model again that has said nothing it can show, as if a person did."""
_NUDGE = re.compile(
    # Only the one about compaction is put after the person's words, instead of by itself.
    rf"(?:\A(?:{'|'.join(map(re.escape, _NUDGES))})|\n\n{re.escape(_COMPACTED)}).*\Z",
    re.DOTALL,
)
_SPEAKER = re.compile(r"^(User|Assistant|Tool:\S+): ", re.M)
_RENDERED_CALL = re.compile(r"\Atool_call id=(\S*) name=(\S+) arguments=(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class ConversationView:
    """The person's messages, and what came back since the last of them."""

    messages: tuple[str, ...]
    returned: ToolResult | None
    rounds: int
    """How often tools have come back; those of one answer are one round."""

    @property
    def latest(self) -> str:
        """The last message; empty if there is none."""
        return self.messages[-1] if self.messages else ""


def view(turns: Iterable[Turn]) -> ConversationView:
    """The view of a conversation, freed of what OpenClaw puts around it."""
    messages: list[str] = []
    names: dict[str, str] = {}
    returned: ToolResult | None = None
    latest = ""
    rounds = 0
    is_in_round = False
    for turn in unfold(turns):
        if isinstance(turn, UserMessage):
            messages.append(turn.parts[0])
            returned, rounds, is_in_round = None, 0, False
        elif isinstance(turn, ToolResult):
            # OpenClaw shows its client another id than the model's.
            name = turn.name or names.get(turn.call_id) or latest or turn.call_id
            returned = ToolResult(turn.call_id, turn.text, name)
            if not is_in_round and HANDED_OVER not in turn.text:
                rounds, is_in_round = rounds + 1, True
        else:
            is_in_round = False
            if isinstance(turn, ToolCall):
                names[turn.id] = latest = turn.name
    return ConversationView(tuple(messages), returned, rounds)


def clean(part: str) -> str:
    """The person's words in one part of a user message; empty if there are none."""
    text = _RUNTIME.sub("", _INTERNAL.sub("", part)).strip()
    return _NUDGE.sub("", _TIMESTAMP.sub("", text)).strip()


def unfold(turns: Iterable[Turn]) -> Iterator[Turn]:
    """The turns as they were before OpenClaw's gateway folded them into one user message.

    A client's history and tool results arrive as lines `User: …`, `Assistant: …`, `Tool:id: …`.
    What has nothing of the person's in it is left out.
    """
    for turn in turns:
        if not isinstance(turn, UserMessage):
            yield turn
            continue
        text = "\n".join(filter(None, map(clean, turn.parts)))
        if _QUEUED.match(text):
            # A message that got no answer, and the one that does. Nothing marks where the first
            # ends: a blank line, so that none of the second is lost.
            waiting, _, text = _QUEUED.sub("", text).partition("\n\n")
            yield UserMessage((waiting,))
        if folded := _HISTORY.match(text):
            yield from _lines(folded["history"] or "")
            yield from _lines(folded["current"])
        elif text.startswith("Tool:"):
            yield from _lines(text)
        elif text:
            yield UserMessage((text,))


def _lines(text: str) -> Iterator[Turn]:
    # re.split with one group gives: before, speaker, words, speaker, words, …
    before, *spoken = _SPEAKER.split(text)
    if before.strip():
        yield UserMessage((before.strip(),))
    for speaker, words in zip(spoken[::2], spoken[1::2], strict=True):
        yield _read_line(speaker, words.removesuffix("\n"))


def _read_line(speaker: str, words: str) -> Turn:
    if speaker == "User":
        return UserMessage((words,))
    if speaker.startswith("Tool:"):
        return ToolResult(speaker.removeprefix("Tool:"), words)
    if call := _RENDERED_CALL.match(words):
        return ToolCall(call[1], call[2])
    return AssistantText(words)
