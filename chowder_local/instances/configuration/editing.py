"""Editing a running agent's configuration as a document: reading, judging, saving it."""

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
"""Of so many changes OpenClaw is asked at most whether they need a restart."""


@dataclass(frozen=True)
class Verdict:
    """What a change comes to, as far as that is known beforehand."""

    changed: tuple[str, ...]
    restarting: tuple[str, ...]
    """The paths for which OpenClaw says that it will restart itself."""


class ConfigEditing:
    """What the dashboard's editor asks for."""

    def __init__(
        self,
        reconfiguration: Reconfiguration,
        config_validator: ConfigValidator,
        gateway_of: GatewayOf,
    ) -> None:
        self._reconfiguration = reconfiguration
        self._config_validator = config_validator
        self._gateway_of = gateway_of

    async def read(self, instance: Instance) -> dict[str, Any]:
        """What is written, without what belongs to the server, and with secrets hidden.

        Raises GatewayUnavailable, RpcRefused.
        """
        config = await self._gateway(instance).call("config.get", {})
        return visible_config(untrusted_json.object_of(config.get("sourceConfig")))

    async def check(self, instance: Instance, patch: Mapping[str, Any]) -> Verdict:
        """Judges a merge patch by OpenClaw's schema, and changes nothing. Raises ConfigRefused."""
        await self._config_validator.check_overrides(patch)
        changed = tuple(changed_paths(agent_config.to_merge_patch(patch)))
        gateway = self._gateway(instance)
        kinds = {path: await _reload_kind(gateway, path) for path in changed[:MAX_LOOKUPS]}
        return Verdict(changed, tuple(path for path in changed if kinds.get(path) == "restart"))

    async def save(self, instance: Instance, patch: Mapping[str, Any]) -> bool:
        """Has OpenClaw take a merge patch; True if it has restarted itself for that.

        Raises ConfigRefused and then nothing has changed; InstanceStateWrong, GatewayUnavailable.
        """
        changed = await self._reconfiguration.change(
            instance.organization_id, instance.id, overrides=patch
        )
        return changed.has_restarted

    def _gateway(self, instance: Instance) -> Gateway:
        return self._gateway_of(instance.sandbox_id, instance.gateway_url)


async def _reload_kind(gateway: Gateway, path: str) -> str:
    """How a change at a path is taken: hot, by a restart, or not at all; empty if nobody knows."""
    while path:
        try:
            found = await gateway.call("config.schema.lookup", {"path": path})
        except RpcRefused:
            # Names of one's own are in no schema, but what they are in is.
            path = path.rpartition(".")[0]
        else:
            return untrusted_json.text_of(found.get("reloadKind"))
    return ""
