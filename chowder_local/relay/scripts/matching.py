"""Whether a rule is about what a model is asked, and what it answers then (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.prompt_format.user_messages import view
from chowder_local.relay.scripts import rules
from chowder_local.relay.scripts.patterns import search
from chowder_local.relay.scripts.templates import TemplateInvalid, render
from chowder_local.relay.wire.conversation import ToolCall
from chowder_local.relay.wire.reply import Reply, StreamStep, split_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regex import Pattern

    from chowder_local.relay.scripts.patterns import TimeLimit
    from chowder_local.relay.scripts.rules import Action, Match, Rule
    from chowder_local.relay.wire.conversation import Conversation

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

    @classmethod
    def of(
        cls,
        provider: str,
        conversation: Conversation,
        session: str | None,
        *,
        is_session_known: bool,
    ) -> Self:
        """What is asked, freed of what OpenClaw adds to it."""
        seen = view(conversation.turns)
        return cls(
            provider=provider,
            model=conversation.model,
            turn=len(seen.messages),
            text=seen.latest,
            round=seen.rounds,
            tool=seen.returned.name if seen.returned else None,
            result=seen.returned.text if seen.returned else None,
            session=session,
            is_session_known=is_session_known,
        )

    @cached_property
    def folded_text(self) -> str:
        """The text for comparisons in any case: every rule would make it anew."""
        return self.text.casefold()

    @cached_property
    def folded_result(self) -> str:
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
class ScriptedAnswer:
    rule: str
    """Which rule that was, in words; or that there was none."""
    answer: Reply | Refusal
    delay_s: float = 0.0


def find_answer(rule: Rule, ask: Ask, limit: TimeLimit) -> int | None:
    """The index of a rule's answer to this; None if the rule is not about it at all.

    Raises MatchingTooSlow.
    """
    if not _fits(rule.match, ask, limit):
        return None
    # A rule about a result begins with that; any other one with the message.
    index = 0 if rule.match.is_of_result else ask.round
    return index if index < len(rule.answers) else None


def _fits(match: Match, ask: Ask, limit: TimeLimit) -> bool:
    if match.is_of_session and not (ask.is_session_known and match.session == ask.session):
        return False
    return (
        (match.turn is None or match.turn == ask.turn)
        and (match.provider is None or match.provider == ask.provider)
        and (match.model is None or fnmatchcase(ask.model, match.model))
        and _is(ask.text, match.equals, limit)
        and _has(ask.text, ask.folded_text, match.text, match.pattern, limit)
        and _fits_result(match, ask, limit)
    )


def _fits_result(match: Match, ask: Ask, limit: TimeLimit) -> bool:
    if not match.is_of_result:
        return True
    if ask.tool is None or match.tool not in (None, ask.tool):
        return False
    result = ask.result or ""
    return _is(result, match.result_equals, limit) and _has(
        result, ask.folded_result, match.result, match.result_pattern, limit
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


def make_answer(
    rule: Rule, action: Action, ask: Ask, digest: str, limit: TimeLimit
) -> tuple[Reply | Refusal, float]:
    """An action as an answer, and its delay; ids are always the same, action of the digest.

    Raises MatchingTooSlow.
    """
    if action.error is not None:
        status = action.error
        if status == rules.OVERLOADED:
            status = _OVERLOADED_STATUSES.get(ask.provider, 503)
        message = action.message or _DEFAULT_WORDS
        return Refusal(int(status), message, action.retry_after_s), action.delay_s
    try:
        text, steps = _text(rule, action, ask, limit)
    except TemplateInvalid as invalid:
        return Refusal(400, f"The script of replies: {invalid}"), 0.0
    reply = Reply(
        text=text,
        calls=tuple(_calls(action, digest)),
        steps=steps,
        stated_input_tokens=action.usage.input_tokens,
        stated_output_tokens=action.usage.output_tokens,
    )
    return reply, action.delay_s


def _text(
    rule: Rule, action: Action, ask: Ask, limit: TimeLimit
) -> tuple[str, tuple[str | StreamStep, ...]]:
    if action.chunks is not None:
        text = "".join(chunk for chunk in action.chunks if isinstance(chunk, str))
        return text, tuple(_paced(action.chunks, action.pace_s))
    text = action.text or ""
    if action.template is not None:
        values = _values(rule.match.pattern, ask, limit)
        text = render(action.template, values, lambda: limit.left_s(str(action.template)))
    return text, tuple(_paced(split_text(text), action.pace_s)) if action.pace_s else ()


def _paced(steps: Iterable[str | StreamStep], pace_s: float) -> Iterator[str | StreamStep]:
    is_first = True
    for step in steps:
        if pace_s and isinstance(step, str) and not is_first:
            yield rules.Pause(wait_s=pace_s)
        is_first = is_first and not isinstance(step, str)
        yield step


def _calls(action: Action, digest: str) -> Iterator[ToolCall]:
    calls = action.calls or []
    if action.call is not None:
        calls = [rules.ToolCall(name=action.call, arguments=action.arguments or {})]
    for number, each in enumerate(calls):
        yield ToolCall(f"call_{digest[:22]}{number:02}", each.name, each.arguments)


def _values(pattern: Pattern[str] | None, ask: Ask, limit: TimeLimit) -> dict[str, Any]:
    found = search(pattern, ask.text, limit) if pattern is not None else None
    groups: dict[str | int, str | None] = {}
    if found is not None:
        groups.update(enumerate((found[0], *found.groups())))
        groups.update(found.groupdict())
    return {
        "text": ask.text,
        "turn": ask.turn,
        "session": ask.session,
        "model": ask.model,
        "provider": str(ask.provider),
        "groups": groups,
        "tool": ask.tool,
        "result": ask.result,
    }


def _quoted(text: str) -> str:
    cut = text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…"
    return f'"{cut}"'
