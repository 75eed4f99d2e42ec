"""The configuration that a sandbox begins with, and whether OpenClaw would take it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.requests import ModelKeyMissing
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.openclaw.config import agent_config, edits
from chowder_local.openclaw.config.agent_config import BLANK_PROVIDER
from chowder_local.openclaw.config.edits import SCHEMA_FILE, find_problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance, ModelProvider, SandboxId, Snapshot
    from chowder_local.core.errors.agents import ConfigProblem
    from chowder_local.core.secrets import SecretBox
    from chowder_local.instances.engine_protocol import Engine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SnapshotSource:
    """The snapshot that an instance is created from."""

    archive: Path
    config: Mapping[str, Any] | None
    """The part that does not belong to one sandbox; None if it cannot be read."""


@dataclass(eq=False, repr=False)
class InitialConfigs:
    """Writes initial configurations; `relay_url` is the relay's address in sandboxes."""

    organizations: Organizations
    secret_box: SecretBox
    relay_url: str
    has_system_jobs: bool = False

    async def first(self, instance: Instance, origin: SnapshotSource | None) -> bytes:
        """An instance's initial `openclaw.json`. Raises ModelKeyMissing if it has no model key."""
        provider = instance.model_provider
        if await self.organizations.model_key(instance.organization_id, provider) is None:
            raise ModelKeyMissing(provider)
        return agent_config.serialize_config(self._config(origin, instance))

    async def of_snapshot(self, instance: Instance, snapshot: Snapshot) -> bytes:
        """The `openclaw.json` that an instance would get from its own snapshot."""
        return await self.first(instance, SnapshotSource(Path(), snapshot.content.get("config")))

    def blank(self, sandbox_id: SandboxId) -> bytes:
        """The initial `openclaw.json` of a warm sandbox."""
        return agent_config.serialize_config(self._base(sandbox_id, BLANK_PROVIDER, None))

    def patch_of_blank(self, instance: Instance, origin: SnapshotSource | None) -> dict[str, Any]:
        """The merge patch from a blank sandbox's configuration to the instance's own."""
        if origin is None:
            return agent_config.blank_patch(instance.model_provider, instance.openclaw_config)
        blank = self._base(instance.sandbox_id, BLANK_PROVIDER, None)
        return edits.merge_patch_between(blank, self._config(origin, instance))

    def _config(self, origin: SnapshotSource | None, instance: Instance) -> dict[str, Any]:
        provider = instance.model_provider
        if origin is None or origin.config is None:
            # Nobody knows the agent's own configuration, so its overrides are the best there is.
            return self._base(instance.sandbox_id, provider, instance.openclaw_config)
        return agent_config.with_reserved(
            self._base(instance.sandbox_id, provider, None), origin.config
        )

    def _base(
        self, sandbox_id: SandboxId, provider: ModelProvider, overrides: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        return agent_config.initial_config(
            gateway_token=self.secret_box.gateway_token(sandbox_id),
            relay_url=self.relay_url,
            relay_token=self.secret_box.relay_token(sandbox_id),
            provider=provider,
            has_system_jobs=self.has_system_jobs,
            overrides=overrides,
        )

    @property
    def fingerprint(self) -> str:
        """Identifies the blank configuration that warm sandboxes are created with now."""
        blank = agent_config.initial_config(
            gateway_token="",
            relay_url=self.relay_url,
            relay_token="",
            provider=BLANK_PROVIDER,
            has_system_jobs=self.has_system_jobs,
        )
        return hashlib.sha256(json.dumps(blank, sort_keys=True).encode()).hexdigest()


MAX_PROBLEMS = 3
"""As many as OpenClaw's own messages list."""


@dataclass(eq=False, repr=False)
class ConfigValidator:
    """Refuses configurations that OpenClaw would refuse at its boot, as far as its schema says."""

    engine: Engine

    def __post_init__(self) -> None:
        self._schemas: dict[str, Mapping[str, Any] | None] = {}
        self._reading = asyncio.Lock()

    async def check_overrides(
        self, overrides: Mapping[str, Any], version: str = DEFAULT_VERSION
    ) -> None:
        """Raises ConfigRefused if overrides are not valid for any agent of a version."""
        await self.check(agent_config.to_merge_patch(overrides), version)

    async def check(self, patch: Mapping[str, Any], version: str = DEFAULT_VERSION) -> None:
        """Raises ConfigRefused, phrased as by OpenClaw, if a nested merge patch is not valid."""
        if not patch:
            return
        try:
            schema = await self._get_schema(version)
        except (EngineUnavailable, ImageMissing) as failure:
            # The boot will fail with the same problem.
            log.warning("a configuration is not validated before the boot: %s", failure)
            return
        if schema is not None and (problems := find_problems(schema, patch)):
            raise ConfigRefused(f"invalid config: {_message(problems)}", problems)

    async def _get_schema(self, version: str) -> Mapping[str, Any] | None:
        async with self._reading:
            if version not in self._schemas:
                content = await self.engine.file_of_image(SCHEMA_FILE, version)
                self._schemas[version] = _parse_schema(content)
            return self._schemas[version]


def _message(problems: Sequence[ConfigProblem]) -> str:
    text = "; ".join(map(str, problems[:MAX_PROBLEMS]))
    more = len(problems) - MAX_PROBLEMS
    return f"{text} (+{more} more issue{'s' if more > 1 else ''})" if more > 0 else text


def _parse_schema(content: bytes | None) -> Mapping[str, Any] | None:
    """The schema; None for a custom image without one."""
    if content is None:
        log.info("the sandbox image has no %s: only boots validate configurations", SCHEMA_FILE)
        return None
    try:
        schema = json.loads(content)
    except ValueError:
        schema = None
    if isinstance(schema, dict):
        return schema
    log.warning("%s in the sandbox image is not a JSON schema", SCHEMA_FILE)
    return None
