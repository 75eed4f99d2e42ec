"""The active reply scripts, and how often each of their rules was used."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.core.events import ChangeSignal
from chowder_local.core.tasks import KeyedLocks
from chowder_local.relay.scripts.matching import Refusal, ScriptedAnswer, find_answer, make_answer
from chowder_local.relay.scripts.patterns import MatchingTooSlow, TimeLimit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.relay.scripts.matching import ModelRequest
    from chowder_local.relay.scripts.rules import ReplyScript, Rule

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
        # One at a time for each organization, so that slow rules of one delay no other.
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
    for order, (rules, used) in enumerate(states):
        for number, rule in enumerate(rules):
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
