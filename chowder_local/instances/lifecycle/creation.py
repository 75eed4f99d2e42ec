"""Creating instances: the row, and the allocation of a sandbox, which restores need as well."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import logs
from chowder_local.core.domain import (
    DEFAULT_VERSION,
    Instance,
    InstanceId,
    InstanceStatus,
    SandboxId,
)
from chowder_local.instances.lifecycle.agents import new_sandbox_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from datetime import datetime

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import OrganizationId, WarmSandbox
    from chowder_local.instances.configuration.initial_config import ConfigValidator
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.versions import OpenclawVersions
    from chowder_local.instances.warm_pool.pool import WarmPool
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxMatcher
    from chowder_local.store.instances import InstanceQueries

    Write = Callable[
        [str | None, Collection[SandboxId]], Awaitable[tuple[Instance, WarmSandbox | None]]
    ]
    """Writes the row in one transaction with the claim. Takes the fingerprint that a warm sandbox
    must have, and the ids of those that boot; returns the instance and the claimed sandbox."""


@dataclass(eq=False, repr=False, kw_only=True)
class InstanceCreation:
    """Creates instances within the limit of their organization's tier."""

    instances: InstanceQueries
    organizations: Organizations
    config_validator: ConfigValidator
    versions: OpenclawVersions
    pool: WarmPool
    provisioner: Provisioner
    matcher: WarmSandboxMatcher
    clock: Callable[[], datetime]

    async def create(self, organization_id: OrganizationId, **fields: Any) -> Instance:
        """A new instance, `provisioning`, with these fields. Raises as `check` and `add`."""
        await self.check(**fields)
        return await self.add(organization_id, **fields)

    async def check(
        self,
        *,
        openclaw_version: str = DEFAULT_VERSION,
        openclaw_config: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Raises VersionUnavailable, and ConfigRefused for a configuration no agent could have."""
        await self.versions.check(openclaw_version)
        await self.config_validator.check_overrides(openclaw_config or {}, openclaw_version)

    async def add(self, organization_id: OrganizationId, **fields: Any) -> Instance:
        """As `create`, with a configuration that is not checked.

        Raises VersionUnavailable, InstanceLimitReached.
        """
        await self.versions.check(fields.get("openclaw_version", DEFAULT_VERSION))
        now = self.clock()
        instance = Instance(
            id=InstanceId(str(uuid.uuid4())),
            organization_id=organization_id,
            status=InstanceStatus.PROVISIONING,
            sandbox_id=new_sandbox_id(),
            created_at=now,
            updated_at=now,
            **fields,
        )
        details = await self.organizations.details(organization_id)
        limit = details.organization.tier.instance_limit

        async def write(
            fingerprint: str | None, booting: Collection[SandboxId]
        ) -> tuple[Instance, WarmSandbox | None]:
            return await self.instances.add(instance, limit, fingerprint, booting)

        logs.set_instance(instance.id)
        return await self.claim_or_boot(instance, write)

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
