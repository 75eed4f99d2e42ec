"""The image of the server itself: this very package and what its lock file pins, on the engine."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import chowder_local
from chowder_local.engine.connection import engine_client
from chowder_local.engine.image_recipe import recipe_digest, recipe_dir
from chowder_local.engine.images import LABEL, REFUSAL, build_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.core.settings import Settings

REPOSITORY = "chowder-local/server"
RECIPE_LABEL = "dev.chowder-local.recipe"
PACKAGE = Path(chowder_local.__file__).parent
LOCK = "requirements.lock"


def server_tag() -> str:
    """What the image is called, which a newer build of the same version takes over."""
    return f"{REPOSITORY}:{chowder_local.__version__}"


def is_current(settings: Settings, env: Mapping[str, str]) -> bool:
    """Whether the engine's image of this version is of this very code. Raises EngineUnavailable."""
    with _context() as folder, engine_client(env, REFUSAL) as (client, _):
        found = client.images.list(name=server_tag())
        wanted = recipe_digest(folder, settings.base_image)
        return any(image.labels.get(RECIPE_LABEL) == wanted for image in found)


def build_server(
    settings: Settings,
    progress: Callable[[str], None],
    *,
    env: Mapping[str, str],
    no_cache: bool = False,
) -> str:
    """Builds the image and returns its tag; the one that had that before goes, if nothing uses it.

    Raises ImageBuildFailed, which quotes the lines that matter, and EngineUnavailable.
    """
    with _context() as folder:
        digest = recipe_digest(folder, settings.base_image)
        index = {name: env[name] for name in ("PIP_INDEX_URL",) if env.get(name)}
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
    """A folder that is laid out as a checkout is, with what the image is built from and no more."""
    packed = PACKAGE / "engine" / "server_recipe"
    recipe = packed if packed.is_dir() else PACKAGE.parent / "docker" / "server"
    lock = (packed if packed.is_dir() else PACKAGE.parent) / LOCK
    with TemporaryDirectory(prefix="chowder-local-") as name:
        folder = Path(name)
        for source, place, left_out in (
            (recipe, "docker/server", (LOCK,)),
            (recipe_dir(), "docker/sandbox", ()),
            (PACKAGE, "chowder_local", ("__pycache__", "recipe", "server_recipe")),
        ):
            shutil.copytree(source, folder / place, ignore=shutil.ignore_patterns(*left_out))
        shutil.copyfile(lock, folder / LOCK)
        yield folder
