"""The scripts of replies that are in force, and how far each has come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.core.keyed_lock import KeyedLocks
from chowder_local.relay.scripts.matching import Refusal, ScriptedAnswer, find_answer, make_answer
from chowder_local.relay.scripts.patterns import MatchingTooSlow, TimeLimit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.relay.scripts.matching import Ask
    from chowder_local.relay.scripts.rules import ReplyScript, Rule

Owner = OrganizationId | InstanceId

THREADS = 4
UNMATCHED_KEPT = 100
UNMATCHED_STATUS = 400
"""Clients try again after most others, and would only be told the same more slowly."""


@dataclass(frozen=True)
class Unmatched:
    """Something that a model was asked and that no rule was about."""

    at: datetime
    ask: Ask
    organization_id: OrganizationId
    instance_id: InstanceId


@dataclass
class Running:
    """A script in force."""

    script: ReplyScript
    used: list[int] = field(default_factory=list)
    """How often each of its rules has counted."""
    unmatched: deque[Unmatched] = field(default_factory=lambda: deque(maxlen=UNMATCHED_KEPT))

    def __post_init__(self) -> None:
        self.used = [0] * len(self.script.replies)


class ScriptRegistry:
    """Scripts of instances, of organizations, and the server's own, asked in this order.

    They end with the server, but for its own, which it is started with.
    """

    def __init__(self, own: ReplyScript | None = None) -> None:
        self.own = None if own is None else Running(own)
        self._of: dict[Owner, Running] = {}
        self._threads = CapacityLimiter(THREADS)
        self._turns = KeyedLocks()

    def put(self, owner: Owner, script: ReplyScript) -> Running:
        """Puts a script in force from its beginning, in place of the owner's present one."""
        self._of[owner] = Running(script)
        return self._of[owner]

    def of(self, owner: Owner) -> Running | None:
        return self._of.get(owner)

    def remove(self, owner: Owner) -> None:
        self._of.pop(owner, None)

    def in_force(self, organization_id: OrganizationId, instance_id: InstanceId) -> list[Running]:
        """What counts for an instance, first of all what is nearest to it."""
        found = [self._of.get(instance_id), self._of.get(organization_id), self.own]
        return [each for each in found if each is not None]

    async def answer(
        self, organization_id: OrganizationId, instance_id: InstanceId, ask: Ask, digest: str
    ) -> ScriptedAnswer | None:
        """What is to be answered; None if that is left to the offline model."""
        running = self.in_force(organization_id, instance_id)
        if not running:
            return None
        # One at a time of each organization, so that slow rules of one keep no other waiting.
        async with self._turns.holding(organization_id):
            found = await self._find(running, ask, digest)
        if found is not None:
            return found
        missed = Unmatched(datetime.now(UTC), ask, organization_id, instance_id)
        running[0].unmatched.append(missed)
        if running[0].script.unmatched == "offline":
            return None
        refusal = Refusal(UNMATCHED_STATUS, f"No rule of the script of replies is about {ask}.")
        return ScriptedAnswer("unmatched", refusal)

    async def _find(self, running: list[Running], ask: Ask, digest: str) -> ScriptedAnswer | None:
        while True:
            states = [(each.script.replies, tuple(each.used)) for each in running]
            found, use = await to_thread.run_sync(
                _look_up, states, ask, digest, limiter=self._threads
            )
            if use is None:
                return found
            each, number = running[use[0]], use[1]
            # In the server's own script another organization may have used it up meanwhile.
            if not _is_over(each.script.replies[number], each.used[number]):
                each.used[number] += 1
                return found


def _look_up(
    states: Sequence[tuple[Sequence[Rule], Sequence[int]]], ask: Ask, digest: str
) -> tuple[ScriptedAnswer | None, tuple[int, int] | None]:
    """The answer of the first rule that counts, for how often each has by now.

    With it, of which script which rule has counted once more, if one has. Takes long: for a thread.
    """
    limit = TimeLimit()
    for order, (rules, used) in enumerate(states):
        for number, rule in enumerate(rules):
            name = rule.name or f"replies[{number}]"
            try:
                at = find_answer(rule, ask, limit)
                # A list of answers is one use, which begins with the first.
                if at is None or (at == 0 and _is_over(rule, used[number])):
                    continue
                answer, delay_s = make_answer(rule, rule.answers[at], ask, digest, limit)
            except MatchingTooSlow as slow:
                refusal = Refusal(UNMATCHED_STATUS, f"The script of replies: {slow}.")
                return ScriptedAnswer(name, refusal), None
            use = (order, number) if at == 0 else None
            return ScriptedAnswer(name, answer, delay_s), use
    return None, None


def _is_over(rule: Rule, used: int) -> bool:
    return rule.times is not None and used >= rule.times
