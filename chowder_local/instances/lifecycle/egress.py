"""Which instances reach the outside, and what it takes to change that."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from chowder_local.core.domain import Egress, InstanceStatus, SandboxState
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import EgressUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId, SandboxInfo
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.instances.lifecycle.drain import Drain
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.store.instances import InstanceChanges, InstanceQueries

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EgressRule:
    """The server's own setting, and why the engine cannot keep a sandbox in, if it cannot."""

    default: Egress = Egress.ON
    problem: str | None = None

    def of(self, instance: Instance) -> Egress:
        """What is in force for an instance."""
        return instance.egress or self.default

    def fits(self, instance: Instance, sandbox: SandboxInfo) -> bool:
        """Whether a sandbox, if there is one, is as the rule has it now."""
        if sandbox.state is SandboxState.MISSING:
            return True
        return sandbox.is_confined and sandbox.egress is self.of(instance)

    def check(self, egress: Egress) -> None:
        """Raises EgressUnavailable."""
        if egress is Egress.OFF and self.problem is not None:
            raise EgressUnavailable(self.problem)


class EgressChanges:
    """Lets an instance out, or keeps it in: by a sandbox made anew on its volume."""

    def __init__(
        self,
        *,
        rule: EgressRule,
        instances: InstanceQueries,
        provisioner: Provisioner,
        locks: KeyedLocks,
        drain: Drain,
        clock: Callable[[], datetime],
    ) -> None:
        self.rule = rule
        self._instances = instances
        self._provisioner = provisioner
        self._locks = locks
        self._drain = drain
        self._clock = clock

    async def change(self, instance_id: InstanceId, egress: Egress | None) -> Instance:
        """The instance with what was chosen for it, which None leaves to the server.

        A running one whose way out changes is `provisioning` then: its turn was let end, and its
        sandbox is made anew. A stopped one's is when it is started, and until then it is frozen.
        Raises InstanceStateWrong, EgressUnavailable.
        """
        wanted = egress or self.rule.default
        self.rule.check(wanted)
        async with self._locks.holding(instance_id):
            instance = await self._alive(instance_id)
            if wanted is self.rule.of(instance) or instance.status is InstanceStatus.STOPPED:
                return await self._changed(instance, egress=egress)
            if instance.status is InstanceStatus.RUNNING:
                await self._drain.drain(instance, instance.gateway_url)
            else:
                await self._provisioner.abandon(instance_id)
                # It may have come to its end just before.
                instance = await self._alive(instance_id)
            changed = await self._changed(
                instance, egress=egress, status=InstanceStatus.PROVISIONING, gateway_url=None
            )
            self._drain.forget(instance.sandbox_id)
            self._provisioner.begin(changed)
            log.info("instance %s: its egress is %s from now on", instance.id, wanted)
            return changed

    async def _alive(self, instance_id: InstanceId) -> Instance:
        instance = await self._instances.get(instance_id)
        if instance is None:
            raise InstanceNotFound
        if instance.status in {InstanceStatus.ERROR, InstanceStatus.TERMINATED}:
            raise InstanceStateWrong(instance.status, "running or stopped")
        return instance

    async def _changed(self, instance: Instance, **fields: Unpack[InstanceChanges]) -> Instance:
        changed = await self._instances.change(instance.id, now=self._clock(), **fields)
        if changed is None:
            raise InstanceNotFound
        return changed
