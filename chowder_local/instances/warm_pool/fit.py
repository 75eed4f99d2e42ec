"""Which warm sandbox an instance wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.openclaw.shortcuts import STATE_TRANSFER

if TYPE_CHECKING:
    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.versions import OpenclawVersions
    from chowder_local.instances.warm_pool.demand import Demand
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes
    from chowder_local.openclaw.shortcuts import Allows


@dataclass(eq=False, repr=False)
class Fit:
    """Compares what an instance needs with what warm sandboxes are made of."""

    warm_sandboxes: WarmSandboxes
    organizations: Organizations
    egress: EgressRule
    demand: Demand
    allows: Allows
    versions: OpenclawVersions

    async def wanted(self, instance: Instance) -> str | None:
        """The fingerprint of the warm sandbox that an instance wants now, whether or not it exists.

        None if none fits.
        """
        if not self.versions.is_default(instance):
            return None
        organization_id, provider = instance.organization_id, instance.model_provider
        # Without a key the boot fails, and a warm sandbox would be wasted.
        if await self.organizations.model_key(organization_id, provider) is None:
            return None
        if self.egress.effective(instance) is not self.egress.default:
            return None
        if instance.has_home and not await self.allows(STATE_TRANSFER):
            return None
        self.demand.add()
        return self.warm_sandboxes.fingerprint
