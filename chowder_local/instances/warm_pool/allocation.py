"""Allocating a sandbox for an instance: a warm one that fits, or else a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from chowder_local.core.domain import Instance, SandboxId, WarmSandbox
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.warm_pool.pool import WarmPool
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxMatcher

    Write = Callable[
        [str | None, Collection[SandboxId]], Awaitable[tuple[Instance, WarmSandbox | None]]
    ]
    """Writes the row in one transaction with the claim. Takes the fingerprint that a warm sandbox
    must have, and the ids of those that boot; returns the instance and the claimed sandbox."""


@dataclass(eq=False, repr=False)
class Allocation:
    """The allocation of sandboxes for create, fork and restore."""

    pool: WarmPool
    provisioner: Provisioner
    matcher: WarmSandboxMatcher

    async def check_version(self, version: str) -> None:
        """Raises VersionUnavailable if no sandbox could have a snapshot's `openclaw_version`."""
        await self.matcher.versions.check(version)

    async def claim_or_boot(self, instance: Instance, write: Write) -> Instance:
        """The instance, `provisioning`, once its row is written; a task then provisions it.

        Raises what `write` raises.
        """
        fingerprint = await self._fingerprint(instance)
        async with self.pool.reserve_booting() as booting:
            instance, warm_sandbox = await write(fingerprint, booting)
        self.provisioner.begin(instance, warm_sandbox)
        return instance

    async def _fingerprint(self, instance: Instance) -> str | None:
        """The fingerprint of a warm sandbox that the instance may claim; None if it must boot."""
        # A fault fails the boot, and a warm sandbox would be wasted.
        if not self.pool.size or self.provisioner.next_creation_fails(instance.organization_id):
            return None
        return await self.matcher.fingerprint_for(instance)
