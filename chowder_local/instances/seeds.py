"""The first configuration of a sandbox, with the tokens that only it has."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw import config
from chowder_local.openclaw.config import BLANK_PROVIDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.domain import ModelProvider, SandboxId
    from chowder_local.tokens import Vault


class Seeds:
    """Writes first configurations; `relay_url` is where sandboxes find the relay."""

    def __init__(self, vault: Vault, relay_url: str) -> None:
        self._vault = vault
        self._relay_url = relay_url

    def of(
        self,
        sandbox_id: SandboxId,
        provider: ModelProvider = BLANK_PROVIDER,
        overrides: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The content of a sandbox's first `openclaw.json`."""
        seed = config.seed(
            gateway_token=self._vault.gateway_token(sandbox_id),
            relay_url=self._relay_url,
            relay_token=self._vault.relay_token(sandbox_id),
            provider=provider,
            overrides=overrides,
        )
        return config.as_file(seed)

    @property
    def likeness(self) -> str:
        """Tells apart blank sandboxes whose first configuration was another than one now."""
        seed = config.seed(
            gateway_token="", relay_url=self._relay_url, relay_token="", provider=BLANK_PROVIDER
        )
        return hashlib.sha256(json.dumps(seed, sort_keys=True).encode()).hexdigest()
