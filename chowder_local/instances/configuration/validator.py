"""Judging the configuration of an agent that is not there yet, by what the sandbox image knows."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.schema import SCHEMA_FILE, find_problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chowder_local.core.errors.agents import Problem
    from chowder_local.instances.engine_protocol import Engine

log = logging.getLogger(__name__)

MAX_PROBLEMS = 3
"""How many OpenClaw names itself."""


class ConfigValidator:
    """Refuses at once what OpenClaw would refuse when it boots, as far as its schema tells."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._schema: Mapping[str, Any] | None = None
        self._is_read = False
        self._reading = asyncio.Lock()

    async def check_overrides(self, overrides: Mapping[str, Any]) -> None:
        """Raises ConfigRefused for overrides that no agent could be given."""
        await self.check(agent_config.to_merge_patch(overrides))

    async def check(self, patch: Mapping[str, Any]) -> None:
        """Raises ConfigRefused, with words like OpenClaw's own, for a nested merge patch."""
        if not patch:
            return
        try:
            schema = await self._known_schema()
        except (EngineUnavailable, ImageMissing) as failure:
            # Whether the agent can be made at all is for its boot to tell.
            log.warning("a configuration is not judged before the boot: %s", failure)
            return
        if schema is not None and (problems := find_problems(schema, patch)):
            raise ConfigRefused(f"invalid config: {_message(problems)}", problems)

    async def _known_schema(self) -> Mapping[str, Any] | None:
        async with self._reading:
            if not self._is_read:
                self._schema = _parsed(await self._engine.file_of_image(SCHEMA_FILE))
                self._is_read = True
            return self._schema


def _message(problems: Sequence[Problem]) -> str:
    words = "; ".join(map(str, problems[:MAX_PROBLEMS]))
    more = len(problems) - MAX_PROBLEMS
    return f"{words} (+{more} more issue{'s' if more > 1 else ''})" if more > 0 else words


def _parsed(content: bytes | None) -> Mapping[str, Any] | None:
    """The schema; None for an image of the operator's own that has none."""
    if content is None:
        log.info("the sandbox image has no %s: only a boot judges configurations", SCHEMA_FILE)
        return None
    try:
        schema = json.loads(content)
    except ValueError:
        schema = None
    if isinstance(schema, dict):
        return schema
    log.warning("%s of the sandbox image is no JSON schema", SCHEMA_FILE)
    return None
