"""The OpenClaw releases that instances run side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.errors.agents import VersionUnavailable
from chowder_local.core.errors.sandboxes import ImageMissing
from chowder_local.core.release import is_release, release_order

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.instances.engine_protocol import Engine


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
