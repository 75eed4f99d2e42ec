"""The server's own image: built from this package and its pinned dependencies."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import chowder_local
from chowder_local.engine.connection import engine_client
from chowder_local.engine.image_recipe import recipe_digest, recipe_dir, versions_dir
from chowder_local.engine.images import LABEL, REFUSAL, build_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.core.settings import Settings

REPOSITORY = "chowder-local/server"
RECIPE_LABEL = "dev.chowder-local.recipe"
PACKAGE = Path(chowder_local.__file__).parent
LOCK = "requirements.lock"


def server_tag() -> str:
    """The image's tag, which a newer build of the same version takes over."""
    return f"{REPOSITORY}:{chowder_local.__version__}"


def is_current(settings: Settings, env: Mapping[str, str]) -> bool:
    """Whether the engine has an image of exactly this code. Raises EngineUnavailable."""
    with _context() as folder, engine_client(env, REFUSAL) as (client, _):
        images = client.images.list(name=server_tag())
        digest = recipe_digest(folder, settings.base_image)
        return any(image.labels.get(RECIPE_LABEL) == digest for image in images)


def build_server(
    settings: Settings,
    progress: Callable[[str], None],
    *,
    env: Mapping[str, str],
    no_cache: bool = False,
) -> str:
    """Builds the image, removes the unused former one of that tag, and returns the tag.

    Raises ImageBuildFailed, which quotes the failed step, and EngineUnavailable.
    """
    with _context() as folder:
        digest = recipe_digest(folder, settings.base_image)
        index = {"PIP_INDEX_URL": url} if (url := env.get("PIP_INDEX_URL")) else {}
        tag = build_folder(
            settings,
            progress,
            env=env,
            folder=folder,
            file=folder / "docker" / "server" / "Dockerfile",
            tag=server_tag(),
            arguments=lambda base: {
                "BASE_IMAGE": base,
                "DIGEST": digest,
                "VERSION": chowder_local.__version__,
                **index,
            },
            subject="The server image",
            no_cache=no_cache,
        )
    with engine_client(env, REFUSAL) as (client, _):
        client.images.prune({"dangling": True, "label": f"{LABEL}=server"})
    return tag


@contextmanager
def _context() -> Iterator[Path]:
    """A temporary folder with the layout of a checkout and only what the image is built from."""
    packed = PACKAGE / "engine" / "server_recipe"
    recipe = packed if packed.is_dir() else PACKAGE.parent / "docker" / "server"
    lock = (packed if packed.is_dir() else PACKAGE.parent) / LOCK
    docs = PACKAGE / "docs"
    with TemporaryDirectory(prefix="chowder-local-") as name:
        folder = Path(name)
        for source, target, excluded in (
            (recipe, "docker/server", (LOCK,)),
            (recipe_dir(), "docker/sandbox", ()),
            (versions_dir(), "docker/versions", ()),
            (
                PACKAGE,
                "chowder_local",
                ("__pycache__", "docs", "recipe", "recipe_versions", "server_recipe"),
            ),
            (docs if docs.is_dir() else PACKAGE.parent / "docs", "docs", ()),
        ):
            shutil.copytree(source, folder / target, ignore=shutil.ignore_patterns(*excluded))
        shutil.copyfile(lock, folder / LOCK)
        yield folder
