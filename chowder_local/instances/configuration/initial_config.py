"""The initial configuration of a sandbox, with its own tokens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.requests import ModelKeyMissing
from chowder_local.openclaw.config import agent_config, edits
from chowder_local.openclaw.config.agent_config import BLANK_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance, ModelProvider, SandboxId, Snapshot
    from chowder_local.core.secrets import SecretBox


@dataclass(frozen=True)
class Origin:
    """The snapshot that an instance is created from."""

    archive: Path
    config: Mapping[str, Any] | None
    """The part that does not belong to one sandbox; None if it cannot be read."""


@dataclass(eq=False, repr=False)
class InitialConfigs:
    """Writes initial configurations; `relay_url` is the relay's address in sandboxes."""

    organizations: Organizations
    box: SecretBox
    relay_url: str

    async def first(self, instance: Instance, origin: Origin | None) -> bytes:
        """An instance's initial `openclaw.json`. Raises ModelKeyMissing if it has no model key."""
        provider = instance.model_provider
        if await self.organizations.model_key(instance.organization_id, provider) is None:
            raise ModelKeyMissing(provider)
        return agent_config.serialize_config(self._config(origin, instance))

    async def of_snapshot(self, instance: Instance, snapshot: Snapshot) -> bytes:
        """The `openclaw.json` that an instance would get from its own snapshot."""
        return await self.first(instance, Origin(Path(), snapshot.content.get("config")))

    def blank(self, sandbox_id: SandboxId) -> bytes:
        """The initial `openclaw.json` of a warm sandbox."""
        return agent_config.serialize_config(self._base(sandbox_id, BLANK_PROVIDER, None))

    def patch_of_blank(self, instance: Instance, origin: Origin | None) -> dict[str, Any]:
        """The merge patch from a blank sandbox's configuration to the instance's own."""
        if origin is None:
            return agent_config.blank_patch(instance.model_provider, instance.openclaw_config)
        blank = self._base(instance.sandbox_id, BLANK_PROVIDER, None)
        return edits.merge_patch_between(blank, self._config(origin, instance))

    def _config(self, origin: Origin | None, instance: Instance) -> dict[str, Any]:
        provider = instance.model_provider
        if origin is None or origin.config is None:
            # Without the agent's own version, the overrides are the best that is known.
            return self._base(instance.sandbox_id, provider, instance.openclaw_config)
        return agent_config.with_reserved(
            self._base(instance.sandbox_id, provider, None), origin.config
        )

    def _base(
        self, sandbox_id: SandboxId, provider: ModelProvider, overrides: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        return agent_config.initial_config(
            gateway_token=self.box.gateway_token(sandbox_id),
            relay_url=self.relay_url,
            relay_token=self.box.relay_token(sandbox_id),
            provider=provider,
            overrides=overrides,
        )

    @property
    def fingerprint(self) -> str:
        """Identifies the blank configuration that warm sandboxes are created with now."""
        blank = agent_config.initial_config(
            gateway_token="", relay_url=self.relay_url, relay_token="", provider=BLANK_PROVIDER
        )
        return hashlib.sha256(json.dumps(blank, sort_keys=True).encode()).hexdigest()
