"""Changing a running agent's configuration: patches, overrides, and the editor of the document."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import (
    ConfigNotApplied,
    ConfigRefused,
    FileMissing,
    FileRefused,
    FileTooLarge,
    GatewayUnavailable,
    RpcRefused,
)
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.core.tasks import watched
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.agent_config import CONFIG_FILE
from chowder_local.openclaw.config.edits import changed_paths, visible_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chowder_local.core.domain import Instance, OrganizationId, SandboxId
    from chowder_local.instances.configuration.initial_config import ConfigValidator
    from chowder_local.instances.conversations.models import VisionModels
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.agents import Agent, Agents
    from chowder_local.openclaw.files import Files
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.store.instances import InstanceChanges

LOG_LINES = 20
LOG_CHARACTERS = 64 * 1024
REASON_TIMEOUT_S = 2.0
"""OpenClaw answers that a reload failed before the engine's log says why."""
REASON_INTERVAL_S = 0.1
# From a line's beginning only, and lazily: the agent's programs can write lines of megabytes, too.
_RELOAD_FAILED = re.compile(
    r"^\S{0,16}?(\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d) .*?reload failed: (.+)", re.MULTILINE
)
MAX_LOOKUPS = 24
"""At most so many changed paths are looked up in OpenClaw's schema."""


@dataclass(frozen=True)
class ChangedInstance:
    """A changed instance, and whether its gateway has restarted itself for the change."""

    instance: Instance
    has_restarted: bool


@dataclass(eq=False, repr=False, kw_only=True)
class Reconfiguration:
    """Changes the agent first, then the row: if OpenClaw refuses, nothing changes."""

    directory: InstanceDirectory
    agents: Agents
    files: Files
    vision_models: VisionModels

    async def change(
        self,
        organization_id: OrganizationId,
        instance_id: str,
        *,
        name: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> ChangedInstance:
        """Renames the instance and merges overrides into those that it has.

        Raises InstanceNotFound; InstanceStateWrong if it is deleted, or is to get overrides and is
        neither running nor stopped; ConfigRefused if OpenClaw refuses the overrides.
        """
        stale = await self.directory.get_for_request(organization_id, instance_id)
        has_restarted = False
        async with self.agents.holding(stale) as agent:
            fields: InstanceChanges = {} if name is None else {"name": name}
            if overrides:
                await agent.bring_back()
                has_restarted = await self._configure(agent, agent_config.to_merge_patch(overrides))
                fields["openclaw_config"] = agent_config.apply_change(
                    agent.row.openclaw_config, overrides, agent.row.model_provider
                )
            if agent.row.status is InstanceStatus.TERMINATED:
                raise InstanceStateWrong(agent.row.status, "alive")
            if not await agent.update(**fields):
                raise InstanceNotFound
            return ChangedInstance(agent.row, has_restarted)

    async def _configure(self, agent: Agent, patch: Mapping[str, Any]) -> bool:
        status = agent.row.status
        if status is InstanceStatus.RUNNING:
            return await self._apply(agent, patch)
        if status is InstanceStatus.STOPPED:
            # Only the agent itself can validate its configuration, so it is resumed for that.
            url = await agent.resume()
            try:
                await agent.update(gateway_url=url)
                return await self._apply(agent, patch)
            finally:
                await agent.freeze()
        raise InstanceStateWrong(status, "running or stopped", agent.row.error_message)

    async def _apply(self, agent: Agent, patch: Mapping[str, Any]) -> bool:
        """Applies a merge patch; the agent accepts turns when this returns.

        True if the gateway has restarted itself for it. Raises ConfigRefused with OpenClaw's
        message if it refuses the patch or does not start with it, and nothing has changed then;
        raises GatewayUnavailable, BootFailed, EngineUnavailable.
        """
        gateway = agent.gateway
        # Held until no restore can follow, which would undo other changes.
        async with gateway.hold_config() as revise:
            try:
                async with watched(self.agents.engine.version):
                    return await self._patch(agent, gateway, lambda: revise(lambda _: patch))
            finally:
                # The configuration may have another list of models now.
                self.vision_models.forget(agent.row.sandbox_id)

    async def _patch(
        self, agent: Agent, gateway: Gateway, patch: Callable[[], Awaitable[bool]]
    ) -> bool:
        # OpenClaw writes some configurations before it finds that they cannot work.
        sandbox_id = agent.row.sandbox_id
        former = await self._read(sandbox_id)
        began_s, began = time.monotonic(), datetime.now(UTC)
        try:
            if has_restarted := await patch():
                await gateway.wait_for_restart(began_s)
                await self.agents.readiness.wait(await agent.inspect())
        except ConfigNotApplied:
            await self.files.write_text(sandbox_id, CONFIG_FILE, former)
            reason = await self._reason(sandbox_id, began)
            raise ConfigRefused(f"OpenClaw does not apply this: {reason}") from None
        except BootFailed as failure:
            url = await agent.boot({CONFIG_FILE: former.encode()})
            await agent.update(gateway_url=url)
            raise ConfigRefused(f"OpenClaw does not start with this: {failure}") from None
        return has_restarted

    async def _reason(self, sandbox_id: SandboxId, since: datetime) -> str:
        """Why a reload has failed, according to the sandbox's log."""
        ends_s = time.monotonic() + REASON_TIMEOUT_S
        while True:
            log_text = await self.agents.engine.log_tail(sandbox_id, LOG_LINES)
            if reason := _reload_failure(log_text, since):
                return reason
            if time.monotonic() > ends_s:
                return "its log does not say why"
            await asyncio.sleep(REASON_INTERVAL_S)

    async def _read(self, sandbox_id: SandboxId) -> str:
        try:
            return await self.files.text(sandbox_id, CONFIG_FILE)
        except (FileMissing, FileRefused, FileTooLarge) as failure:
            # The agent can damage its own configuration file.
            raise GatewayUnavailable(f"its configuration cannot be read: {failure}") from None


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


def _reload_failure(log_text: str, since: datetime) -> str | None:
    """The reason of the latest failed reload in a log, unless it is older than `since`."""
    for stamp, reason in reversed(_RELOAD_FAILED.findall(log_text[-LOG_CHARACTERS:])):
        # It may be forged.
        with suppress(ValueError):
            is_new = datetime.fromisoformat(stamp) >= since
            return untrusted_json.message_of(reason) if is_new else None
    return None
