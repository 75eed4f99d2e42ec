"""Tells the model relay whose sandbox calls, and lends it that organization's model key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import OFFLINE_KEY, InstanceStatus, SandboxId
from chowder_local.core.errors.upstream import RelayTokenInvalid
from chowder_local.relay.calls import Credential

if TYPE_CHECKING:
    from chowder_local.accounts.model_keys import ModelKeys
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.spares import SpareQueries


class ModelCredentials:
    """The relay's lender; see `CredentialResolver` in relay/service.py."""

    def __init__(
        self,
        box: SecretBox,
        instances: InstanceQueries,
        spares: SpareQueries,
        model_keys: ModelKeys,
    ) -> None:
        self._box = box
        self._instances = instances
        self._spares = spares
        self._model_keys = model_keys

    async def resolve(self, relay_token: str, provider: str) -> Credential:
        """The key, read anew for each call, so that a changed one counts at once.

        A spare, which is nobody's yet, gets the offline model. Raises RelayTokenInvalid if we
        never gave the token out, or its instance is terminated.
        """
        if (found := self._box.sandbox_of(relay_token)) is None:
            raise RelayTokenInvalid
        sandbox_id = SandboxId(found)
        instance = await self._instances.by_sandbox(sandbox_id)
        if instance is None and await self._spares.has(sandbox_id):
            return Credential(None, None, sandbox_id, OFFLINE_KEY)
        if instance is None or instance.status is InstanceStatus.TERMINATED:
            raise RelayTokenInvalid
        return Credential(
            organization_id=instance.organization_id,
            instance_id=instance.id,
            sandbox_id=instance.sandbox_id,
            key=await self._model_keys.of(instance.organization_id, provider),
        )
