"""Validating the configuration of a new agent against the schema in the sandbox image."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.edits import SCHEMA_FILE, find_problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chowder_local.core.errors.agents import Problem
    from chowder_local.instances.engine_protocol import Engine

log = logging.getLogger(__name__)

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


def _message(problems: Sequence[Problem]) -> str:
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
