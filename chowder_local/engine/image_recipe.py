"""The recipe of the sandbox image: its folder, its versions, and the tag derived from them."""

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
    """The folder with the Dockerfile, in the wheel or in the checkout."""
    packed = Path(__file__).with_name("recipe")
    return packed if packed.is_dir() else Path(__file__).parents[2] / "docker" / "sandbox"


def read_versions(folder: Path) -> dict[str, str]:
    """The lines `NAME=value` of the recipe's `versions.env`."""
    lines = (folder / "versions.env").read_text(encoding="utf-8").splitlines()
    assignments = (line for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in assignments)}


def openclaw_version() -> str:
    return read_versions(recipe_dir())["OPENCLAW_VERSION"]


def expected_tag(settings: Settings) -> str:
    """The sandbox image's tag: the operator's own (CHOWDER_IMAGE), or that of this recipe.

    The recipe's tag changes with every byte of the recipe, so that a new release builds a new
    image.
    """
    return settings.image or tag_of(recipe_dir(), settings.base_image)


def tag_of(folder: Path, base_image: str) -> str:
    """`chowder-local/sandbox:<OpenClaw version>-<12 hex digits of recipe and base>`."""
    version = read_versions(folder)["OPENCLAW_VERSION"]
    return f"{REPOSITORY}:{version}-{recipe_digest(folder, base_image)}"


def recipe_digest(folder: Path, base_image: str) -> str:
    """12 hex digits of a digest of the folder's files and the base image's name."""
    digest = hashlib.sha256(base_image.encode())
    for path in _files(folder):
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        # The length keeps different folders from being equal as one run of bytes.
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder in order, without those of editors and desktops (.swp, .DS_Store)."""
    for path in sorted(folder.rglob("*")):
        is_hidden = path.name.startswith(".") and path.name != ".dockerignore"
        if path.is_file() and not is_hidden:
            yield path
