"""Editing a running agent's configuration as a document: read, check, save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import RpcRefused
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.edits import changed_paths, visible_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import Instance
    from chowder_local.instances.configuration.reconfiguration import Reconfiguration
    from chowder_local.instances.configuration.validator import ConfigValidator
    from chowder_local.openclaw.gateway import Gateway, GatewayOf

MAX_LOOKUPS = 24
"""At most so many changed paths are looked up in OpenClaw's schema."""


@dataclass(frozen=True)
class ChangePreview:
    """What a configuration change would do."""

    changed: tuple[str, ...]
    restarting: tuple[str, ...]
    """The changed paths for which OpenClaw will restart itself."""


@dataclass(eq=False, repr=False)
class ConfigEditing:
    """The operations of the dashboard's configuration editor."""

    reconfiguration: Reconfiguration
    config_validator: ConfigValidator
    gateway_of: GatewayOf

    async def read(self, instance: Instance) -> dict[str, Any]:
        """The written configuration, without the parts that are the server's, and secrets hidden.

        Raises GatewayUnavailable, RpcRefused.
        """
        config = await self._gateway(instance).call("config.get", {})
        return visible_config(untrusted_json.object_of(config.get("sourceConfig")))

    async def check(self, instance: Instance, patch: Mapping[str, Any]) -> ChangePreview:
        """Previews a merge patch. Raises ConfigRefused if it does not fit OpenClaw's schema."""
        await self.config_validator.check_overrides(patch, instance.openclaw_version)
        changed = tuple(changed_paths(agent_config.to_merge_patch(patch)))
        gateway = self._gateway(instance)
        kinds = {path: await _reload_kind(gateway, path) for path in changed[:MAX_LOOKUPS]}
        return ChangePreview(
            changed, tuple(path for path in changed if kinds.get(path) == "restart")
        )

    async def save(self, instance: Instance, patch: Mapping[str, Any]) -> bool:
        """Applies a merge patch; True if OpenClaw has restarted itself for it.

        Raises as `Reconfiguration.change`, and GatewayUnavailable.
        """
        changed = await self.reconfiguration.change(
            instance.organization_id, instance.id, overrides=patch
        )
        return changed.has_restarted

    def _gateway(self, instance: Instance) -> Gateway:
        return self.gateway_of(instance.sandbox_id, instance.gateway_url)


async def _reload_kind(gateway: Gateway, path: str) -> str:
    """How OpenClaw applies a change at a path: `hot`, `restart` or `none`; empty if unknown."""
    while path:
        try:
            entry = await gateway.call("config.schema.lookup", {"path": path})
        except RpcRefused:
            # Names that users choose are not in the schema, but their parents are.
            path = path.rpartition(".")[0]
        else:
            return untrusted_json.text_of(entry.get("reloadKind"))
    return ""
