"""Allocating a sandbox for an instance: a warm one that fits, or else a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance, SandboxId, WarmSandbox
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.warm_pool.pool import WarmPool

    Write = Callable[[str | None, SandboxId | None], Awaitable[tuple[Instance, WarmSandbox | None]]]
    """Writes the row in one transaction with the claim. Takes the fingerprint that a warm sandbox
    must have, and the id of one that is booting; returns the instance and the claimed sandbox."""


class Allocation:
    """The allocation of sandboxes for create, fork and restore."""

    def __init__(
        self,
        pool: WarmPool,
        provisioner: Provisioner,
        organizations: Organizations,
        egress: EgressRule,
    ) -> None:
        self._pool = pool
        self._provisioner = provisioner
        self._organizations = organizations
        self._egress = egress

    async def claim_or_boot(self, instance: Instance, write: Write) -> Instance:
        """The instance, `provisioning`, once its row is written; a task then provisions it.

        Raises what `write` raises.
        """
        fingerprint = await self._fingerprint(instance)
        async with self._pool.reserve_booting() as booting_id:
            instance, warm_sandbox = await write(fingerprint, booting_id)
        self._provisioner.begin(instance, warm_sandbox)
        if warm_sandbox is not None:
            self._pool.refill()
        return instance

    async def _fingerprint(self, instance: Instance) -> str | None:
        """The fingerprint of a warm sandbox that fits the instance; None if none fits."""
        organization_id, provider = instance.organization_id, instance.model_provider
        has_key = await self._organizations.model_key(organization_id, provider) is not None
        # Without a key, or with a fault, the boot fails, and a warm sandbox would be wasted.
        if not has_key or self._provisioner.next_creation_fails(organization_id):
            return None
        if self._egress.effective(instance) is not self._egress.default:
            return None
        return self._pool.fingerprint
