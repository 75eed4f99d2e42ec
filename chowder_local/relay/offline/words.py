"""What a person said, freed of what OpenClaw puts around it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chowder_local.relay.offline.conversation import Answered, Called, Returned, Said

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chowder_local.relay.offline.conversation import Turn

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


def clean(part: str) -> str:
    """The person's words in one part of a user message; empty if there are none."""
    text = _RUNTIME.sub("", _INTERNAL.sub("", part)).strip()
    return _NUDGE.sub("", _TIMESTAMP.sub("", text)).strip()


def unfolded(turns: Iterable[Turn]) -> Iterator[Turn]:
    """The turns as they were before OpenClaw's gateway folded them into one user message.

    A client's history and tool results arrive as lines `User: …`, `Assistant: …`, `Tool:id: …`.
    What has nothing of the person's in it is left out.
    """
    for turn in turns:
        if not isinstance(turn, Said):
            yield turn
            continue
        text = "\n".join(filter(None, map(clean, turn.parts)))
        if _QUEUED.match(text):
            # A message that got no answer, and the one that does. Nothing marks where the first
            # ends: a blank line, so that none of the second is lost.
            waiting, _, text = _QUEUED.sub("", text).partition("\n\n")
            yield Said((waiting,))
        if folded := _HISTORY.match(text):
            yield from _lines(folded["history"] or "")
            yield from _lines(folded["current"])
        elif text.startswith("Tool:"):
            yield from _lines(text)
        elif text:
            yield Said((text,))


def _lines(text: str) -> Iterator[Turn]:
    # re.split with one group gives: before, speaker, words, speaker, words, …
    before, *spoken = _SPEAKER.split(text)
    if before.strip():
        yield Said((before.strip(),))
    for speaker, words in zip(spoken[::2], spoken[1::2], strict=True):
        yield _spoken(speaker, words.removesuffix("\n"))


def _spoken(speaker: str, words: str) -> Turn:
    if speaker == "User":
        return Said((words,))
    if speaker.startswith("Tool:"):
        return Returned(speaker.removeprefix("Tool:"), words)
    if call := _RENDERED_CALL.match(words):
        return Called(call[1], call[2])
    return Answered(words)
