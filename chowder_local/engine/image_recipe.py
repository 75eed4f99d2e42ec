"""The recipes and tags of the sandbox images, one for each OpenClaw release."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.specs import command_of, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import docker

    from chowder_local.core.settings import Settings
    from chowder_local.engine.specs import SandboxTemplate
    from chowder_local.engine.threads import Threads

REPOSITORY = "chowder-local/sandbox"
VERSIONS_FILE = "versions.env"
CHANNELS_FILE = "channels/package.json"
_OWN = (
    VERSIONS_FILE,
    "package.json",
    "package-lock.json",
    CHANNELS_FILE,
    "channels/package-lock.json",
)
"""The files in which the recipes of two releases differ."""
_DIGEST_LENGTH = 12


def recipe_dir() -> Path:
    """The folder with the Dockerfile, in the wheel or in the checkout."""
    packed = Path(__file__).with_name("recipe")
    return packed if packed.is_dir() else Path(__file__).parents[2] / "docker" / "sandbox"


def versions_dir() -> Path:
    """The folder with what the recipes of other releases have of their own, each in a folder."""
    packed = Path(__file__).with_name("recipe_versions")
    return packed if packed.is_dir() else Path(__file__).parents[2] / "docker" / "versions"


def read_versions(folder: Path) -> dict[str, str]:
    """The lines `NAME=value` of the recipe's `versions.env`."""
    return _parse_versions((folder / VERSIONS_FILE).read_text(encoding="utf-8"))


def openclaw_version(settings: Settings | None = None) -> str:
    """The OpenClaw release of new instances: that of the settings, or else of `versions.env`."""
    chosen = None if settings is None else settings.openclaw_version
    return chosen or read_versions(recipe_dir())["OPENCLAW_VERSION"]


@dataclass(frozen=True)
class Recipe:
    """What the image of one OpenClaw release is built from.

    `files` are the contents by their names. A release that is not pinned here has no locks: the
    build resolves its packages.
    """

    openclaw_version: str
    files: Mapping[str, bytes]
    is_locked: bool = True

    @property
    def versions(self) -> dict[str, str]:
        """The lines of the recipe's `versions.env`."""
        return _parse_versions(self.files[VERSIONS_FILE].decode())

    def tag(self, base_image: str) -> str:
        """`chowder-local/sandbox:<OpenClaw version>-<12 hex digits of recipe and base>`."""
        digest = _digest(self.files.items(), base_image)
        return f"{REPOSITORY}:{self.openclaw_version}-{digest}"

    def with_files(self, files: Mapping[str, bytes]) -> Recipe:
        """The recipe of an unpinned release with what resolving it has given."""
        return Recipe(self.openclaw_version, {**self.files, **files})

    @contextmanager
    def context(self) -> Iterator[Path]:
        """A temporary folder with the files, to build from."""
        with TemporaryDirectory(prefix="chowder-local-") as name:
            folder = Path(name)
            for file, content in self.files.items():
                path = folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            yield folder


def recipe_of(version: str) -> Recipe:
    """The recipe of a release, whether it is the default, pinned here, or any other."""
    folder = recipe_dir()
    files = dict(_contents(folder))
    package = json.loads(files["package.json"])
    if package["dependencies"]["openclaw"] == version:
        return Recipe(version, files)
    own = versions_dir() / version
    if (own / VERSIONS_FILE).is_file():
        return Recipe(version, {**files, **dict(_contents(own))})
    node = _parse_versions(files[VERSIONS_FILE].decode())["NODE_VERSION"]
    common = {name: content for name, content in files.items() if name not in _OWN}
    # The tag depends on the release alone, so that it is known before the release's packages are.
    lines = f"NODE_VERSION={node}\nOPENCLAW_VERSION={version}\n"
    return Recipe(version, {**common, VERSIONS_FILE: lines.encode()}, is_locked=False)


def expected_tag(settings: Settings, version: str | None = None) -> str:
    """The tag of a release's image; by default the operator's own (CHOWDER_IMAGE), if there is one.

    A recipe's tag changes with every byte of the recipe, so that a new release builds a new image.
    """
    if version is None and settings.image is not None:
        return settings.image
    return recipe_of(version or openclaw_version(settings)).tag(settings.base_image)


def tag_of(folder: Path, base_image: str) -> str:
    """The tag of the image of a recipe's folder."""
    version = read_versions(folder)["OPENCLAW_VERSION"]
    return f"{REPOSITORY}:{version}-{recipe_digest(folder, base_image)}"


def recipe_digest(folder: Path, base_image: str) -> str:
    """12 hex digits of a digest of the folder's files and the base image's name."""
    return _digest(_contents(folder), base_image)


def _digest(files: Iterable[tuple[str, bytes]], base_image: str) -> str:
    digest = hashlib.sha256(base_image.encode())
    for name, content in files:
        # The length separates names and contents: without it, different folders could give the same
        # bytes.
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _parse_versions(text: str) -> dict[str, str]:
    assignments = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in assignments)}


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a folder in order, without those of editors, desktops and Python.

    pip compiles the recipe's Python files when it installs the wheel.
    """
    for path in sorted(folder.rglob("*")):
        is_hidden = path.name.startswith(".") and path.name != ".dockerignore"
        if path.is_file() and not is_hidden and path.parent.name != "__pycache__":
            yield path.relative_to(folder).as_posix(), path.read_bytes()


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
        # A thread computes the image's name, because that reads the release's recipe.
        return await self.threads.run(partial(self._image_of, version))

    async def template(self, version: str) -> SandboxTemplate:
        """The template of an `openclaw_version`. Raises ImageMissing, EngineUnavailable."""
        own, image = self.own(), await self.image(version)
        return own if image == own.image else await self.threads.run(partial(self._other, image))

    def _other(self, image: str) -> SandboxTemplate:
        with translated_errors("look up the sandbox image", image=image):
            found = self.client.images.get(image)
        return replace(self.own(), image=image, command=command_of(found.attrs["Config"]))
