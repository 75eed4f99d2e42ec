"""Which shortcuts the sandbox image's release of OpenClaw allows."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.openclaw.shortcuts.catalogue import find_misfits
from chowder_local.openclaw.shortcuts.observations import OBSERVATIONS_FILE, read_observations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.openclaw.shortcuts.catalogue import Shortcut

log = logging.getLogger(__name__)


class ImageShortcuts:
    """Reads from the image once which shortcuts fit; an image of this tag does not change."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._misfits: Mapping[str, str] | None = None
        self._reading = asyncio.Lock()

    async def misfits(self) -> Mapping[str, str]:
        """The names of the shortcuts that are not taken, with the reasons.

        Raises EngineUnavailable, ImageMissing.
        """
        async with self._reading:
            if self._misfits is None:
                content = await self._engine.file_of_image(OBSERVATIONS_FILE)
                self._misfits = find_misfits(read_observations(content))
                for name, reason in self._misfits.items():
                    log.warning("without the shortcut %r: %s", name, reason)
            return self._misfits

    async def allow(self, shortcut: Shortcut) -> bool:
        """Whether the server may take a shortcut; not if the image cannot be read now."""
        try:
            return shortcut.name not in await self.misfits()
        except (EngineUnavailable, ImageMissing) as failure:
            log.warning("it is not known whether %r fits: %s", shortcut.name, failure)
            return False
