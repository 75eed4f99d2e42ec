"""The active reply scripts: which rule answers a model request, and how often each was used."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread

from chowder_local.core.domain import MAIN_SESSION, InstanceId, ModelProvider, OrganizationId
from chowder_local.core.events import ChangeSignal
from chowder_local.core.tasks import KeyedLocks
from chowder_local.relay.prompt_format import is_same_tool
from chowder_local.relay.scripts import rules
from chowder_local.relay.scripts.expressions import (
    MatchingTooSlow,
    TemplateInvalid,
    TimeLimit,
    render,
    search,
)
from chowder_local.relay.scripts.rules import Rule
from chowder_local.relay.wire.conversation import Reply, StreamStep, ToolCall, split_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from regex import Pattern

    from chowder_local.relay.prompt_format import ModelRequest
    from chowder_local.relay.scripts.rules import Action, Condition, ReplyScript

_OVERLOADED_STATUSES: Mapping[str, int] = {ModelProvider.ANTHROPIC: 529}
_DEFAULT_MESSAGE = "The reply script asks for this error."


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
        and (match.job is None or match.job == request.job)
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


Owner = OrganizationId | InstanceId

THREADS = 4
UNMATCHED_KEPT = 100
UNMATCHED_STATUS = 400
"""Clients retry after most other statuses, and would only get the same error later."""


@dataclass(frozen=True)
class Unmatched:
    """A model request that no rule matched."""

    at: datetime
    request: ModelRequest
    organization_id: OrganizationId
    instance_id: InstanceId


@dataclass
class ActiveScript:
    """A script that is in force, with its state."""

    script: ReplyScript
    used: list[int] = field(default_factory=list)
    """How often each rule was used."""
    unmatched: deque[Unmatched] = field(default_factory=lambda: deque(maxlen=UNMATCHED_KEPT))

    def __post_init__(self) -> None:
        self.used = [0] * len(self.script.replies)


class ScriptRegistry:
    """Scripts of instances, of organizations, and the server's own, tried in this order.

    They are kept in memory. Only the server's own comes back with a restart.
    """

    def __init__(self, own: ReplyScript | None = None) -> None:
        self.own = None if own is None else ActiveScript(own)
        self._by_owner: dict[Owner, ActiveScript] = {}
        self.changes = ChangeSignal()
        """A script is put in force or removed."""
        self._threads = CapacityLimiter(THREADS)
        self._turns = KeyedLocks()

    def put(self, owner: Owner, script: ReplyScript) -> ActiveScript:
        """Activates a script, instead of the owner's present one. Its counts begin at 0."""
        self._by_owner[owner] = ActiveScript(script)
        self.changes.notify()
        return self._by_owner[owner]

    def get(self, owner: Owner) -> ActiveScript | None:
        return self._by_owner.get(owner)

    def remove(self, owner: Owner) -> None:
        self._by_owner.pop(owner, None)
        self.changes.notify()

    def forget(self, instance_id: InstanceId) -> None:
        """Drops the script and the unmatched calls of an instance that is deleted."""
        for each in filter(None, (self.own, *self._by_owner.values())):
            kept = (missed for missed in each.unmatched if missed.instance_id != instance_id)
            each.unmatched = deque(kept, maxlen=UNMATCHED_KEPT)
        self.remove(instance_id)

    def active_for(
        self, organization_id: OrganizationId, instance_id: InstanceId
    ) -> list[ActiveScript]:
        """The scripts that apply to an instance, in the order in which they are tried."""
        scripts = [self.get(instance_id), self.get(organization_id), self.own]
        return [each for each in scripts if each is not None]

    async def answer(
        self, organization_id: OrganizationId, instance_id: InstanceId, request: ModelRequest
    ) -> ScriptedAnswer | None:
        """The answer to a request; None if the offline model has to answer."""
        scripts = self.active_for(organization_id, instance_id)
        if not scripts:
            return None
        # Each organization has one call at a time here, so that its slow rules delay no other.
        async with self._turns.holding(organization_id):
            answer = await self._find(scripts, request)
        if answer is not None:
            return answer
        unmatched = Unmatched(datetime.now(UTC), request, organization_id, instance_id)
        scripts[0].unmatched.append(unmatched)
        if scripts[0].script.unmatched == "offline":
            return None
        refusal = Refusal(UNMATCHED_STATUS, f"No rule of the reply script matches {request}.")
        return ScriptedAnswer("unmatched", refusal)

    async def fits(self, match: Condition, request: ModelRequest) -> bool:
        """Whether a condition matches a request; one that takes too long does not."""

        def look() -> bool:
            try:
                return _fits(match, request, TimeLimit())
            except MatchingTooSlow:
                return False

        return await to_thread.run_sync(look, limiter=self._threads)

    async def render(self, action: Action, request: ModelRequest) -> ScriptedAnswer:
        """The answer of an action that belongs to no script."""

        def make() -> ScriptedAnswer:
            answer, delay_s = make_answer(Rule(reply=action), action, request, TimeLimit())
            return ScriptedAnswer("", answer, delay_s)

        return await to_thread.run_sync(make, limiter=self._threads)

    async def _find(
        self, scripts: list[ActiveScript], request: ModelRequest
    ) -> ScriptedAnswer | None:
        while True:
            states = [(each.script.replies, tuple(each.used)) for each in scripts]
            answer, use = await to_thread.run_sync(_look_up, states, request, limiter=self._threads)
            if use is None:
                return answer
            script, number = scripts[use[0]], use[1]
            # Another organization may have used up a rule of the server's own script meanwhile.
            if not _is_used_up(script.script.replies[number], script.used[number]):
                script.used[number] += 1
                return answer


def _look_up(
    states: Sequence[tuple[Sequence[Rule], Sequence[int]]], request: ModelRequest
) -> tuple[ScriptedAnswer | None, tuple[int, int] | None]:
    """The answer of the first rule that matches; runs in a thread because it may take long.

    `states` are the rules of each script and how often each was used. The second value is the index
    of the script and of the rule whose count goes up; None if no count does.
    """
    limit = TimeLimit()
    for order, (script_rules, used) in enumerate(states):
        for number, rule in enumerate(script_rules):
            name = rule.name or f"replies[{number}]"
            try:
                index = find_answer(rule, request, limit)
                # A list of answers counts as one use, at its first answer.
                if index is None or (index == 0 and _is_used_up(rule, used[number])):
                    continue
                answer, delay_s = make_answer(rule, rule.answers[index], request, limit)
            except MatchingTooSlow as slow:
                refusal = Refusal(UNMATCHED_STATUS, f"The reply script: {slow}.")
                return ScriptedAnswer(name, refusal), None
            use = (order, number) if index == 0 else None
            return ScriptedAnswer(name, answer, delay_s), use
    return None, None


def _is_used_up(rule: Rule, used: int) -> bool:
    return rule.times is not None and used >= rule.times
