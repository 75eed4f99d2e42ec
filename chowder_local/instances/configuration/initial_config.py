"""The first configuration of a sandbox, with the tokens that only it has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw.config import agent_config, edits, transfer
from chowder_local.openclaw.config.agent_config import BLANK_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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

    def __init__(self, box: SecretBox, relay_url: str) -> None:
        self._box = box
        self._relay_url = relay_url

    def of(
        self,
        sandbox_id: SandboxId,
        provider: ModelProvider = BLANK_PROVIDER,
        overrides: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The content of a sandbox's first `openclaw.json`."""
        return agent_config.serialize_config(self._seed(sandbox_id, provider, overrides))

    def like(self, origin: Origin, instance: Instance) -> bytes:
        """The same of one that is made of another."""
        return agent_config.serialize_config(self._whole(origin, instance))

    def change_to(self, origin: Origin, instance: Instance) -> dict[str, Any]:
        """What makes of a blank sandbox's configuration the one that `like` gives."""
        blank = self._seed(instance.sandbox_id, BLANK_PROVIDER, None)
        return edits.merge_patch_between(blank, self._whole(origin, instance))

    def _whole(self, origin: Origin, instance: Instance) -> dict[str, Any]:
        provider = instance.model_provider
        if origin.config is None:
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
    def likeness(self) -> str:
        """Tells apart blank sandboxes whose first configuration was another than one now."""
        seed = agent_config.initial_config(
            gateway_token="", relay_url=self._relay_url, relay_token="", provider=BLANK_PROVIDER
        )
        return hashlib.sha256(json.dumps(seed, sort_keys=True).encode()).hexdigest()
