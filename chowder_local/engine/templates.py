"""What an engine creates sandboxes from: the image of its own OpenClaw release, and of others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.specs import command_of, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    import docker

    from chowder_local.engine.specs import SandboxTemplate
    from chowder_local.engine.threads import Threads


@dataclass(eq=False, repr=False)
class Templates:
    """The options of new sandboxes, which differ between OpenClaw releases in their image only."""

    client: docker.DockerClient
    threads: Threads

    def __post_init__(self) -> None:
        self._image_of: Callable[[str], str] | None = None
        self.prepared: SandboxTemplate | None = None
        self.fingerprint = ""
        """A digest of the image and the options of sandboxes of the engine's own release."""

    def prepare(
        self, own: SandboxTemplate, image_id: str, image_of: Callable[[str], str] | None
    ) -> None:
        """Sets the template of the engine's own release, whose image has that id.

        `image_of` is as in `SandboxDefaults`.
        """
        self.prepared, self._image_of = own, image_of
        self.fingerprint = fingerprint(image_id, own)

    def own(self) -> SandboxTemplate:
        """The template of the engine's own release. Raises EngineUnavailable before `prepare`."""
        if self.prepared is None:
            raise EngineUnavailable("The engine is not prepared yet; try again in a moment.")
        return self.prepared

    def own_image(self) -> str | None:
        """The tag of its image; None before `prepare`."""
        return None if self.prepared is None else self.prepared.image

    async def image(self, version: str) -> str:
        """The tag of the image of an `openclaw_version`, whether the engine has it or not."""
        own = self.own()
        if version == DEFAULT_VERSION or self._image_of is None:
            return own.image
        # It reads the release's recipe.
        return await self.threads.run(partial(self._image_of, version))

    async def template(self, version: str) -> SandboxTemplate:
        """The template of an `openclaw_version`. Raises ImageMissing, EngineUnavailable."""
        own, image = self.own(), await self.image(version)
        return own if image == own.image else await self.threads.run(partial(self._other, image))

    def _other(self, image: str) -> SandboxTemplate:
        with translated_errors("look up the sandbox image", image=image):
            found = self.client.images.get(image)
        return replace(self.own(), image=image, command=command_of(found.attrs["Config"]))
