"""What the sandbox image is made from: the recipe folder, its versions, and the tag they give."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.settings import Settings

REPOSITORY = "chowder-local/sandbox"
_DIGEST_LENGTH = 12


def recipe_dir() -> Path:
    """The folder with the Dockerfile: packed into a wheel, or the checkout's own."""
    packed = Path(__file__).with_name("recipe")
    return packed if packed.is_dir() else Path(__file__).parents[2] / "docker" / "sandbox"


def read_versions(folder: Path) -> dict[str, str]:
    """The lines `NAME=value` of the recipe's `versions.env`."""
    lines = (folder / "versions.env").read_text(encoding="utf-8").splitlines()
    wanted = (line for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in wanted)}


def openclaw_version() -> str:
    return read_versions(recipe_dir())["OPENCLAW_VERSION"]


def expected_tag(settings: Settings) -> str:
    """The image that sandboxes are made of: the operator's own, or the one this recipe builds.

    The tag changes with every byte of the recipe, so that a new release builds a new image and
    an old one is never taken for it.
    """
    return settings.image or tag_of(recipe_dir(), settings.base_image)


def tag_of(folder: Path, base_image: str) -> str:
    """`chowder-local/sandbox:<OpenClaw version>-<12 hex digits of recipe and base>`."""
    version = read_versions(folder)["OPENCLAW_VERSION"]
    return f"{REPOSITORY}:{version}-{recipe_digest(folder, base_image)}"


def recipe_digest(folder: Path, base_image: str) -> str:
    """12 hex digits, which change with every byte of a recipe and with its base."""
    digest = hashlib.sha256(base_image.encode())
    for path in _files(folder):
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        # Lengths keep two different folders from being the same run of bytes.
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _files(folder: Path) -> Iterator[Path]:
    """What people and their desktops leave in a folder (.DS_Store, .swp) is no part of it."""
    for path in sorted(folder.rglob("*")):
        hidden = path.name.startswith(".") and path.name != ".dockerignore"
        if path.is_file() and not hidden:
            yield path
