"""Resolves the credential for a sandbox's model call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import (
    OFFLINE_KEY,
    InstanceStatus,
    SandboxId,
)
from chowder_local.core.errors.upstream import RelayTokenInvalid
from chowder_local.relay.calls import Credential

if TYPE_CHECKING:
    from chowder_local.accounts.organizations import ModelKeys
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries


@dataclass(eq=False, repr=False)
class ModelCredentials:
    """Resolves a sandbox's token to the model key of its organization."""

    secret_box: SecretBox
    instances: InstanceQueries
    warm_sandboxes: WarmSandboxQueries
    model_keys: ModelKeys

    async def resolve(self, relay_token: str, provider: str) -> Credential:
        """The credential, read for each call, so that a changed key takes effect at once.

        A warm sandbox, or one whose warm-up an instance waits for, gets the offline model. Raises
        RelayTokenInvalid if the token is not valid or its instance is terminated.
        """
        if (token_sandbox_id := self.secret_box.sandbox_of(relay_token)) is None:
            raise RelayTokenInvalid
        sandbox_id = SandboxId(token_sandbox_id)
        if self.warm_sandboxes.is_warming(sandbox_id):
            return Credential(None, None, sandbox_id, OFFLINE_KEY)
        instance = await self.instances.by_sandbox(sandbox_id)
        if instance is None and await self.warm_sandboxes.has(sandbox_id):
            return Credential(None, None, sandbox_id, OFFLINE_KEY)
        if instance is None or instance.status is InstanceStatus.TERMINATED:
            raise RelayTokenInvalid
        return Credential(
            organization_id=instance.organization_id,
            instance_id=instance.id,
            sandbox_id=instance.sandbox_id,
            key=await self.model_keys.find(instance.organization_id, provider),
        )
