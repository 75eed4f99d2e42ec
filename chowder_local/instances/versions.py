"""The OpenClaw releases that instances run side by side, and which shortcuts each allows."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import DEFAULT_VERSION, is_release, release_order
from chowder_local.core.errors.agents import VersionUnavailable
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.openclaw.shortcuts import OBSERVATIONS_FILE, find_misfits, read_observations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import Instance
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.openclaw.shortcuts import Shortcut

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class OpenclawVersions:
    """Knows the server's own release, and which others have an image; `default` is the former."""

    engine: Engine
    default: str

    def release(self, version: str) -> str:
        """The exact release that an `openclaw_version` means."""
        # Servers before this one took any text, and ran their own release.
        return version if is_release(version) else self.default

    def is_default(self, instance: Instance) -> bool:
        """Whether the instance runs the server's own release, as warm sandboxes do."""
        return self.release(instance.openclaw_version) == self.default

    def is_newer(self, version: str, other: str) -> bool:
        """Whether the release of one `openclaw_version` is newer than that of another."""
        return release_order(self.release(version)) > release_order(self.release(other))

    async def check(self, version: str) -> None:
        """Raises VersionUnavailable if an instance could not run it; no call for the default."""
        if self.release(version) == self.default:
            return
        try:
            await self.engine.check_image(version)
        except ImageMissing:
            raise VersionUnavailable(version) from None


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
