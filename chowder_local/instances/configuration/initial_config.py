"""The first configuration of a sandbox, with the tokens that only it has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.requests import ModelKeyMissing
from chowder_local.openclaw.config import agent_config, edits, transfer
from chowder_local.openclaw.config.agent_config import BLANK_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance, ModelProvider, SandboxId
    from chowder_local.core.secrets import SecretBox


@dataclass(frozen=True)
class Origin:
    """What an instance is made of that is not to be blank."""

    archive: Path
    config: Mapping[str, Any] | None
    """What is not any sandbox's own; None if that cannot be told."""


class InitialConfigs:
    """Writes first configurations; `relay_url` is where sandboxes find the relay."""

    def __init__(self, organizations: Organizations, box: SecretBox, relay_url: str) -> None:
        self._organizations = organizations
        self._box = box
        self._relay_url = relay_url

    async def first(self, instance: Instance, origin: Origin | None) -> bytes:
        """The content of an instance's first `openclaw.json`. Raises ModelKeyMissing."""
        provider = instance.model_provider
        if await self._organizations.model_key(instance.organization_id, provider) is None:
            raise ModelKeyMissing(provider)
        return agent_config.serialize_config(self._whole(origin, instance))

    def blank(self, sandbox_id: SandboxId) -> bytes:
        """The same of a warm sandbox, which is nobody's yet."""
        return agent_config.serialize_config(self._seed(sandbox_id, BLANK_PROVIDER, None))

    def patch_of_blank(self, instance: Instance, origin: Origin | None) -> dict[str, Any]:
        """What makes of a blank sandbox's configuration the one that the instance is to have."""
        if origin is None:
            return agent_config.blank_patch(instance.model_provider, instance.openclaw_config)
        blank = self._seed(instance.sandbox_id, BLANK_PROVIDER, None)
        return edits.merge_patch_between(blank, self._whole(origin, instance))

    def _whole(self, origin: Origin | None, instance: Instance) -> dict[str, Any]:
        provider = instance.model_provider
        if origin is None or origin.config is None:
            # What the agent itself has made of it cannot be read; then as it was asked for.
            return self._seed(instance.sandbox_id, provider, instance.openclaw_config)
        return transfer.with_reserved(
            self._seed(instance.sandbox_id, provider, None), origin.config
        )

    def _seed(
        self, sandbox_id: SandboxId, provider: ModelProvider, overrides: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        return agent_config.initial_config(
            gateway_token=self._box.gateway_token(sandbox_id),
            relay_url=self._relay_url,
            relay_token=self._box.relay_token(sandbox_id),
            provider=provider,
            overrides=overrides,
        )

    @property
    def fingerprint(self) -> str:
        """Tells apart warm sandboxes whose first configuration was another than one now."""
        seed = agent_config.initial_config(
            gateway_token="", relay_url=self._relay_url, relay_token="", provider=BLANK_PROVIDER
        )
        return hashlib.sha256(json.dumps(seed, sort_keys=True).encode()).hexdigest()
