"""Which shortcuts the sandbox image's release of OpenClaw allows."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.openclaw.shortcuts import OBSERVATIONS_FILE, find_misfits, read_observations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.openclaw.shortcuts import Shortcut

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class ImageShortcuts:
    """Reads from the image once which shortcuts fit; an image of this tag does not change."""

    engine: Engine

    def __post_init__(self) -> None:
        self._misfits: dict[str, Mapping[str, str]] = {}
        self._reading = asyncio.Lock()

    async def misfits(self, version: str = DEFAULT_VERSION) -> Mapping[str, str]:
        """The shortcuts that are not taken with an `openclaw_version`, with the reasons.

        Raises EngineUnavailable, ImageMissing.
        """
        async with self._reading:
            if version not in self._misfits:
                content = await self.engine.file_of_image(OBSERVATIONS_FILE, version)
                self._misfits[version] = find_misfits(read_observations(content))
                for name, reason in self._misfits[version].items():
                    log.warning("OpenClaw %s: without the shortcut %r: %s", version, name, reason)
            return self._misfits[version]

    async def allow(self, shortcut: Shortcut, version: str = DEFAULT_VERSION) -> bool:
        """Whether the server may take a shortcut; not if the image cannot be read now."""
        try:
            return shortcut.name not in await self.misfits(version)
        except (EngineUnavailable, ImageMissing) as failure:
            log.warning("it is not known whether %r fits: %s", shortcut.name, failure)
            return False
