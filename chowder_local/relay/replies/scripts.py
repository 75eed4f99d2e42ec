"""The scripts of replies that are in force, and how far each has come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chowder_local.domain import InstanceId, OrganizationId
from chowder_local.relay.replies.matching import Played, Refusal, place, played
from chowder_local.relay.replies.patterns import PatternTooSlow

if TYPE_CHECKING:
    from chowder_local.relay.replies.matching import Ask
    from chowder_local.relay.replies.rules import ReplyScript

Owner = OrganizationId | InstanceId

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


@dataclass(frozen=True)
class Scripted:
    """What a script has the model answer."""

    played: Played
    rule: str
    """Which rule that was, in words; or that there was none."""


class Scripts:
    """Scripts of instances, of organizations, and the server's own, asked in this order.

    They end with the server, but for its own, which it is started with.
    """

    def __init__(self, own: ReplyScript | None = None) -> None:
        self.own = None if own is None else Running(own)
        self._of: dict[Owner, Running] = {}

    def put(self, owner: Owner, script: ReplyScript) -> Running:
        """Puts a script in force from its beginning, in place of the owner's present one."""
        self._of[owner] = Running(script)
        return self._of[owner]

    def of(self, owner: Owner) -> Running | None:
        """The owner's own script."""
        return self._of.get(owner)

    def remove(self, owner: Owner) -> None:
        """Ends the owner's script, if there is one."""
        self._of.pop(owner, None)

    def in_force(self, organization_id: OrganizationId, instance_id: InstanceId) -> list[Running]:
        """What counts for an instance, first of all what is nearest to it."""
        found = [self._of.get(instance_id), self._of.get(organization_id), self.own]
        return [each for each in found if each is not None]

    def answer(
        self, organization_id: OrganizationId, instance_id: InstanceId, ask: Ask, digest: str
    ) -> Scripted | None:
        """What is to be answered; None if that is left to the offline model."""
        running = self.in_force(organization_id, instance_id)
        for each in running:
            for number, rule in enumerate(each.script.replies):
                name = rule.name or f"replies[{number}]"
                try:
                    at = place(rule, ask)
                except PatternTooSlow as slow:
                    refusal = Refusal(UNMATCHED_STATUS, f"The script of replies: {slow}.")
                    return Scripted(Played(refusal), name)
                # A list of answers is one use, which begins with the first.
                is_over = rule.times is not None and each.used[number] >= rule.times
                if at is None or (at == 0 and is_over):
                    continue
                each.used[number] += at == 0
                return Scripted(played(rule, rule.answers[at], ask, digest), name)
        if not running:
            return None
        missed = Unmatched(datetime.now(UTC), ask, organization_id, instance_id)
        running[0].unmatched.append(missed)
        if running[0].script.unmatched == "offline":
            return None
        refusal = Refusal(UNMATCHED_STATUS, f"No rule of the script of replies is about {ask}.")
        return Scripted(Played(refusal), "unmatched")
