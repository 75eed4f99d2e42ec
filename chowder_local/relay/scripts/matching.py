"""Whether a rule is about what a model is asked, and what it answers then (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.offline.conversation import Called, Reply, Usage, pieces
from chowder_local.relay.offline.stream_steps import Cut, Raw, StreamStep, Wait
from chowder_local.relay.offline.view import seen
from chowder_local.relay.scripts.patterns import TimeLimit, search
from chowder_local.relay.scripts.rules import OVERLOADED, Break, Pause, ToolCall, Verbatim
from chowder_local.relay.scripts.templates import TemplateInvalid, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regex import Pattern

    from chowder_local.relay.offline.conversation import Conversation
    from chowder_local.relay.scripts.rules import Action, Match, Rule

_OVERLOADED_STATUSES: Mapping[str, int] = {ModelProvider.ANTHROPIC: 529}
_DEFAULT_WORDS = "The script of replies says so."
_QUOTED_CHARACTERS = 200


@dataclass(frozen=True)
class Ask:
    """What a model is asked, as far as rules can tell one from another."""

    provider: str
    model: str
    turn: int
    """How many messages the person has sent in this conversation."""
    text: str
    """The latest of them."""
    round: int = 0
    """How often tools have come back since."""
    tool: str | None = None
    result: str | None = None
    session: str | None = None
    """Its name; None for the main one."""
    is_session_known: bool = False
    """Not of a turn that a messenger began, say."""

    @cached_property
    def folded_text(self) -> str:
        """The text for comparisons in any case: every rule would make it anew."""
        return self.text.casefold()

    @cached_property
    def folded_result(self) -> str:
        """The same of what came back."""
        return (self.result or "").casefold()

    def __str__(self) -> str:
        where = ""
        if self.is_session_known:
            where = " in the main session" if self.session is None else f" in {self.session!r}"
        words = f"turn {self.turn}{where}, {_quoted(self.text)}"
        if self.tool is not None:
            words += f", after {self.tool} came to {_quoted(self.result or '')}"
        return f"{words}, of {self.model}"


@dataclass(frozen=True)
class Refusal:
    """A failure of the provider."""

    status: int
    words: str
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Played:
    """What a rule makes of a question."""

    answer: Reply | Refusal
    delay_s: float = 0.0


def ask(
    provider: str,
    conversation: Conversation,
    session: str | None = None,
    *,
    is_session_known: bool = False,
) -> Ask:
    """What is asked, freed of what OpenClaw adds to it."""
    view = seen(conversation)
    return Ask(
        provider=provider,
        model=conversation.model,
        turn=len(view.messages),
        text=view.messages[-1] if view.messages else "",
        round=view.rounds,
        tool=view.returned.name if view.returned else None,
        result=view.returned.text if view.returned else None,
        session=session,
        is_session_known=is_session_known,
    )


def place(rule: Rule, asked: Ask, limit: TimeLimit) -> int | None:
    """Which of a rule's answers is for this; None if it is not about it at all.

    Raises MatchingTooSlow.
    """
    if not _fits(rule.match, asked, limit):
        return None
    # A rule about a result begins with that; any other one with the message.
    index = 0 if rule.match.is_of_result else asked.round
    return index if index < len(rule.answers) else None


def _fits(match: Match, asked: Ask, limit: TimeLimit) -> bool:
    if match.is_of_session and not (asked.is_session_known and match.session == asked.session):
        return False
    return (
        (match.turn is None or match.turn == asked.turn)
        and (match.provider is None or match.provider == asked.provider)
        and (match.model is None or fnmatchcase(asked.model, match.model))
        and _is(asked.text, match.equals, limit)
        and _has(asked.text, asked.folded_text, match.text, match.pattern, limit)
        and _fits_result(match, asked, limit)
    )


def _fits_result(match: Match, asked: Ask, limit: TimeLimit) -> bool:
    if not match.is_of_result:
        return True
    if asked.tool is None or match.tool not in (None, asked.tool):
        return False
    result = asked.result or ""
    return _is(result, match.result_equals, limit) and _has(
        result, asked.folded_result, match.result, match.result_pattern, limit
    )


def _is(text: str, whole: str | None, limit: TimeLimit) -> bool:
    if whole is None:
        return True
    limit.left_s(whole)
    return text.strip() == whole.strip()


def _has(
    text: str, folded: str, part: str | None, pattern: Pattern[str] | None, limit: TimeLimit
) -> bool:
    if part is not None:
        limit.left_s(part)
        if part.casefold() not in folded:
            return False
    return pattern is None or search(pattern, text, limit) is not None


def played(rule: Rule, made: Action, asked: Ask, digest: str, limit: TimeLimit) -> Played:
    """An action as an answer; ids are made of the digest, so that they are always the same.

    Raises MatchingTooSlow.
    """
    if made.error is not None:
        status = made.error
        if status == OVERLOADED:
            status = _OVERLOADED_STATUSES.get(asked.provider, 503)
        refusal = Refusal(int(status), made.message or _DEFAULT_WORDS, made.retry_after_s)
        return Played(refusal, made.delay_s)
    try:
        text, beats = _said(rule, made, asked, limit)
    except TemplateInvalid as invalid:
        return Played(Refusal(400, f"The script of replies: {invalid}"))
    reply = Reply(
        text=text,
        calls=tuple(_calls(made, digest)),
        beats=beats,
        usage=Usage(made.usage.input_tokens, made.usage.output_tokens),
    )
    return Played(reply, made.delay_s)


def _said(
    rule: Rule, made: Action, asked: Ask, limit: TimeLimit
) -> tuple[str, tuple[str | StreamStep, ...]]:
    if made.chunks is not None:
        text = "".join(chunk for chunk in made.chunks if isinstance(chunk, str))
        return text, tuple(_paced((_beat(chunk) for chunk in made.chunks), made.pace_s))
    text = made.text or ""
    if made.template is not None:
        values = _values(rule.match.pattern, asked, limit)
        text = rendered(made.template, values, lambda: limit.left_s(str(made.template)))
    return text, tuple(_paced(pieces(text), made.pace_s)) if made.pace_s else ()


def _paced(steps: Iterator[str | StreamStep], pace_s: float) -> Iterator[str | StreamStep]:
    is_first = True
    for step in steps:
        if pace_s and isinstance(step, str) and not is_first:
            yield Wait(pace_s)
        is_first = is_first and not isinstance(step, str)
        yield step


def _beat(chunk: str | Pause | Verbatim | Break) -> str | StreamStep:
    if isinstance(chunk, str):
        return chunk
    if isinstance(chunk, Pause):
        return Wait(chunk.wait_s)
    return Raw(chunk.raw.encode()) if isinstance(chunk, Verbatim) else Cut()


def _calls(made: Action, digest: str) -> Iterator[Called]:
    calls = made.calls or []
    if made.call is not None:
        calls = [ToolCall(name=made.call, arguments=made.arguments or {})]
    for number, each in enumerate(calls):
        yield Called(f"call_{digest[:22]}{number:02}", each.name, each.arguments)


def _values(pattern: Pattern[str] | None, asked: Ask, limit: TimeLimit) -> dict[str, Any]:
    found = search(pattern, asked.text, limit) if pattern is not None else None
    groups: dict[str | int, str | None] = {}
    if found is not None:
        groups.update(enumerate((found[0], *found.groups())))
        groups.update(found.groupdict())
    return {
        "text": asked.text,
        "turn": asked.turn,
        "session": asked.session,
        "model": asked.model,
        "provider": str(asked.provider),
        "groups": groups,
        "tool": asked.tool,
        "result": asked.result,
    }


def _quoted(text: str) -> str:
    cut = text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…"
    return f'"{cut}"'
