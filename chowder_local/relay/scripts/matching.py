"""Whether a rule matches a model request, and the answer that it makes (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from chowder_local.core.domain import MAIN_SESSION, ModelProvider
from chowder_local.relay.prompt_format import client_name, is_same_tool, make_view
from chowder_local.relay.scripts import rules
from chowder_local.relay.scripts.patterns import search
from chowder_local.relay.scripts.templates import TemplateInvalid, render
from chowder_local.relay.wire.conversation import ToolCall
from chowder_local.relay.wire.reply import Reply, StreamStep, split_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regex import Pattern

    from chowder_local.relay.scripts.patterns import TimeLimit
    from chowder_local.relay.scripts.rules import Action, Condition, Rule
    from chowder_local.relay.wire.conversation import Conversation

_OVERLOADED_STATUSES: Mapping[str, int] = {ModelProvider.ANTHROPIC: 529}
_DEFAULT_MESSAGE = "The reply script asks for this error."
_QUOTED_CHARACTERS = 200


@dataclass(frozen=True)
class ModelRequest:
    """A model request, reduced to what rules can match."""

    provider: str
    model: str
    turn: int
    """The number of user messages in the conversation."""
    text: str
    """The latest user message."""
    round: int = 0
    """The number of rounds of tool results since that message."""
    tool: str | None = None
    result: str | None = None
    session: str | None = None
    """Name of the session; None is the main session."""
    is_session_known: bool = False
    """False for a turn that a messenger began, for example."""
    digest: str = ""
    """Source of the ids in the answer, the same for equal requests."""

    @classmethod
    def from_conversation(
        cls,
        provider: str,
        conversation: Conversation,
        session: str | None,
        *,
        is_session_known: bool,
    ) -> Self:
        """The request of a conversation, without what OpenClaw adds to it."""
        view = make_view(conversation.turns)
        return cls(
            provider=provider,
            model=conversation.model,
            turn=len(view.messages),
            text=view.latest,
            round=view.rounds,
            tool=client_name(view.tool_result.name) if view.tool_result else None,
            result=view.tool_result.text if view.tool_result else None,
            session=session,
            is_session_known=is_session_known,
            digest=conversation.digest,
        )

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


@dataclass(frozen=True)
class Refusal:
    """An error in the provider's place."""

    status: int
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True)
class ScriptedAnswer:
    rule: str
    """The rule's name, or its place such as `replies[0]`; `unmatched` if no rule matched."""
    answer: Reply | Refusal
    delay_s: float = 0.0


def find_answer(rule: Rule, request: ModelRequest, limit: TimeLimit) -> int | None:
    """The index of the rule's answer to the request; None if the rule does not match.

    Raises MatchingTooSlow if the time limit ends.
    """
    if not _fits(rule.match, request, limit):
        return None
    # The answers of a rule about a tool result begin at the result, others at the message.
    index = 0 if rule.match.is_of_result else request.round
    return index if index < len(rule.answers) else None


def _is_in_session(name: str | None, request: ModelRequest) -> bool:
    is_same = (name or MAIN_SESSION) == (request.session or MAIN_SESSION)
    return request.is_session_known and is_same


def _fits(match: Condition, request: ModelRequest, limit: TimeLimit) -> bool:
    if match.is_of_session and not _is_in_session(match.session, request):
        return False
    return (
        (match.turn is None or match.turn == request.turn)
        and (match.provider is None or match.provider == request.provider)
        and (match.model is None or fnmatchcase(request.model, match.model))
        and _is(request.text, match.equals, limit)
        and _has(request.text, request.folded_text, match.text, match.pattern, limit)
        and _fits_result(match, request, limit)
    )


def _fits_result(match: Condition, request: ModelRequest, limit: TimeLimit) -> bool:
    if not match.is_of_result:
        return True
    if request.tool is None or not is_same_tool(match.tool or request.tool, request.tool):
        return False
    result = request.result or ""
    return _is(result, match.result_equals, limit) and _has(
        result, request.folded_result, match.result, match.result_pattern, limit
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
    rule: Rule, action: Action, request: ModelRequest, limit: TimeLimit
) -> tuple[Reply | Refusal, float]:
    """The answer of an action, and its delay in seconds.

    Raises MatchingTooSlow if the time limit ends.
    """
    if action.error is not None:
        status = action.error
        if status == rules.OVERLOADED:
            status = _OVERLOADED_STATUSES.get(request.provider, 503)
        message = action.message or _DEFAULT_MESSAGE
        return Refusal(int(status), message, action.retry_after_s), action.delay_s
    try:
        text, steps = _text(rule, action, request, limit)
    except TemplateInvalid as invalid:
        return Refusal(400, f"The reply script: {invalid}"), 0.0
    reply = Reply(
        text=text,
        calls=tuple(_calls(action, request.digest)),
        steps=steps,
        stated_input_tokens=action.usage.input_tokens,
        stated_output_tokens=action.usage.output_tokens,
    )
    return reply, action.delay_s


def _text(
    rule: Rule, action: Action, request: ModelRequest, limit: TimeLimit
) -> tuple[str, tuple[str | StreamStep, ...]]:
    if action.chunks is not None:
        text = "".join(chunk for chunk in action.chunks if isinstance(chunk, str))
        return text, tuple(_paced(action.chunks, action.pace_s))
    text = action.text or ""
    if action.template is not None:
        values = _values(rule.match.pattern, request, limit)
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


def _values(
    pattern: Pattern[str] | None, request: ModelRequest, limit: TimeLimit
) -> dict[str, Any]:
    match = search(pattern, request.text, limit) if pattern is not None else None
    groups: dict[str | int, str | None] = {}
    if match is not None:
        groups.update(enumerate((match[0], *match.groups())))
        groups.update(match.groupdict())
    return {
        "text": request.text,
        "turn": request.turn,
        "session": request.session,
        "model": request.model,
        "provider": str(request.provider),
        "groups": groups,
        "tool": request.tool,
        "result": request.result,
    }


def _quoted(text: str) -> str:
    cut = text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…"
    return f'"{cut}"'
