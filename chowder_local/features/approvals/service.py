"""The commands of agents that wait for an approval, and the policies by which OpenClaw asks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.events import ChangeSignal, EventType
from chowder_local.features.approvals import openclaw
from chowder_local.features.approvals.errors import ApprovalNotFound, ApprovalRefused
from chowder_local.features.approvals.openclaw import Outcome
from chowder_local.openclaw.gateway import is_unanswered

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from enum import StrEnum

    from chowder_local.core.domain import Instance, InstanceId, SandboxId
    from chowder_local.core.events import Events
    from chowder_local.features.approvals.openclaw import (
        AllowedCommand,
        Approval,
        ApprovalPolicy,
        Decision,
    )
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.gateway_events import GatewayEvents
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.openclaw.gateway import GatewayOf

log = logging.getLogger(__name__)

DECIDED_KEPT = 1_000
MAX_WAITING = 100
"""Of an agent, which may tell what it likes."""
ATTEMPTS = 5
COMMAND_MAX = 500
"""The most characters of a command in an event."""
_CHANGED = "changed since last load"


@dataclass(eq=False, repr=False, kw_only=True)
class Approvals:
    """What waits, as the gateways tell, and decisions about it.

    It is in memory only: gateways tell what begins and ends to wait, and repeat every few seconds
    what waits. Besides what each method names, those that call an agent raise InstanceStateWrong
    if it does not run, SandboxTooOld, GatewayUnavailable, and what brings a hibernated agent back
    raises.
    """

    residency: Residency
    engine: Engine
    gateway_of: GatewayOf
    gateway_events: GatewayEvents
    events: Events

    def __post_init__(self) -> None:
        self._waiting: dict[InstanceId, tuple[SandboxId, dict[str, Approval]]] = {}
        self._asked: dict[InstanceId, SandboxId] = {}
        """The sandboxes that have told all that waits since this server began."""
        # A gateway may have repeated one before it heard of the decision.
        self._decided: LRUCache[str, None] = LRUCache(DECIDED_KEPT)
        self.changes = ChangeSignal()
        """Something waits, or does not any more."""
        self.gateway_events.handlers |= {
            openclaw.REQUESTED: self._note_requested,
            openclaw.RESOLVED: self._note_resolved,
            openclaw.LIST: self._note_list,
        }

    def known(self, instance: Instance) -> list[Approval]:
        """What waits as far as is known, the longest first."""
        sandbox_id, waiting = self._waiting.get(instance.id, (instance.sandbox_id, {}))
        # What waits ends with its sandbox's processes. Those of a stopped agent are frozen.
        is_alive = instance.is_in_memory or instance.status is InstanceStatus.STOPPED
        if sandbox_id != instance.sandbox_id or not is_alive:
            self._end_all(instance)
        return sorted(waiting.values(), key=lambda each: each.since)

    async def list(self, instance: Instance) -> list[Approval]:
        """What waits now, the longest first; what it was, of an agent that is frozen."""
        if instance.is_in_memory:
            if self._asked.get(instance.id) != instance.sandbox_id:
                # What it told before this server began, its gateway repeats in some seconds only.
                async with self.residency.using(instance) as instance:
                    await self._ask(instance)
        elif instance.id in self._waiting:
            sandbox = await self.engine.inspect(instance.sandbox_id)
            if sandbox.state is not SandboxState.PAUSED:
                self._end_all(instance)
        return self.known(instance)

    async def _ask(self, instance: Instance) -> None:
        gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
        before = {each.id for each in self.known(instance)}
        try:
            listed = await gateway.call_as_client(openclaw.LIST, {})
        except GatewayUnavailable as busy:
            log.info("instance %s: is asked again what waits: %s", instance.id, busy)
        else:
            self._asked[instance.id] = instance.sandbox_id
            self._note_list(instance, listed, before)

    async def decide(self, instance: Instance, approval_id: str, decision: Decision) -> Approval:
        """Lets a command run, or denies it. Raises ApprovalNotFound, ApprovalRefused."""
        listed = {each.id: each for each in await self.list(instance)}
        if (found := listed.get(approval_id)) is None:
            raise ApprovalNotFound
        params = {"id": approval_id, "decision": openclaw.written(decision)}
        async with self.residency.using(instance) as instance:
            gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
            try:
                await gateway.call_as_client(openclaw.RESOLVE, params)
            except RpcRefused as refused:
                if any(each in str(refused) for each in ("unknown or expired", "already resolved")):
                    raise ApprovalNotFound from None
                raise ApprovalRefused(f"OpenClaw refuses it: {refused}") from refused
        self._decided[approval_id] = None
        self._end(instance, approval_id, Outcome(decision))
        return found

    async def policy(self, instance: Instance) -> ApprovalPolicy:
        """By what OpenClaw asks."""
        async with self.residency.using(instance) as instance:
            gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
            answer = await gateway.call_as_client(openclaw.GET_POLICY, {})
            config = await gateway.call("config.get", {})
        return openclaw.read_policy(
            untrusted_json.object_of(answer), untrusted_json.object_at(config, "config")
        )

    async def set_policy(
        self,
        instance: Instance,
        words: Mapping[str, StrEnum],
        allowlist: Sequence[AllowedCommand] | None,
    ) -> ApprovalPolicy:
        """Changes what is given, by OpenClaw's names; it holds at once. Raises ApprovalRefused."""
        is_repeated = False
        async with self.residency.using(instance) as instance:
            gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
            config = untrusted_json.object_at(await gateway.call("config.get", {}), "config")
            for _ in range(ATTEMPTS):
                answer = untrusted_json.object_of(
                    await gateway.call_as_client(openclaw.GET_POLICY, {})
                )
                file = openclaw.changed_policy(answer, words, allowlist)
                params = {"file": file, "baseHash": answer.get("hash")}
                try:
                    await gateway.call_as_client(openclaw.SET_POLICY, params)
                except RpcRefused as refused:
                    # A command that is allowed for ever, or a use of the list, is written there.
                    if _CHANGED not in str(refused):
                        raise ApprovalRefused(f"OpenClaw refuses it: {refused}") from refused
                except GatewayUnavailable as unavailable:
                    # It may be set. To set it once more does no harm.
                    if is_repeated or not is_unanswered(unavailable):
                        raise
                    is_repeated = True
                else:
                    # Without another call, which could fail though the policy is set.
                    return openclaw.read_policy({"file": file}, config)
        raise GatewayUnavailable("the policy changes faster than it can be set")

    def forget(self, instance_id: InstanceId) -> None:
        """Drops what is known of an instance that is deleted."""
        self._waiting.pop(instance_id, None)
        self._asked.pop(instance_id, None)

    def _note_list(
        self, instance: Instance, listed: Any, before: Collection[str] | None = None
    ) -> None:
        """What is not in the list has ended; what came since it was asked for may be missing."""
        read = map(openclaw.read_approval, untrusted_json.objects_of(listed))
        current = {each.id: each for each in read if each is not None}
        for each in self.known(instance):
            if each.id not in current and (before is None or each.id in before):
                # Its end was not told, as when the gateway was started again.
                self._end(instance, each.id, Outcome.CANCELLED)
        for each in current.values():
            self._begin(instance, each)

    def _note_requested(self, instance: Instance, payload: Any) -> None:
        approval = openclaw.read_approval(untrusted_json.object_of(payload))
        if approval is not None:
            self._begin(instance, approval)

    def _note_resolved(self, instance: Instance, payload: Any) -> None:
        raw = untrusted_json.object_of(payload)
        approval_id = untrusted_json.text_of(raw.get("id"))
        _, waiting = self._waiting.get(instance.id, (None, {}))
        if (known := waiting.get(approval_id)) is not None:
            self._end(instance, approval_id, openclaw.read_outcome(raw, known.until))

    def _begin(self, instance: Instance, approval: Approval) -> None:
        self.known(instance)
        _, waiting = self._waiting.setdefault(instance.id, (instance.sandbox_id, {}))
        if approval.id in waiting or approval.id in self._decided or len(waiting) >= MAX_WAITING:
            return
        waiting[approval.id] = approval
        self._publish(EventType.APPROVAL_REQUESTED, instance, approval)

    def _end_all(self, instance: Instance) -> None:
        _, waiting = self._waiting.get(instance.id, (None, {}))
        for each in [*waiting]:
            self._end(instance, each, Outcome.CANCELLED)

    def _end(self, instance: Instance, approval_id: str, outcome: Outcome) -> None:
        _, waiting = self._waiting.get(instance.id, (None, {}))
        if (approval := waiting.pop(approval_id, None)) is None:
            return
        if not waiting:
            del self._waiting[instance.id]
        self._publish(EventType.APPROVAL_RESOLVED, instance, approval, decision=outcome.value)

    def _publish(
        self, kind: EventType, instance: Instance, approval: Approval, **members: str
    ) -> None:
        self.changes.notify()
        self.events.publish(
            kind,
            instance.organization_id,
            instance.id,
            approval_id=approval.id,
            command=approval.command[:COMMAND_MAX],
            **members,
        )
