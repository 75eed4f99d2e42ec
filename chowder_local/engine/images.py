"""Images on the engine: finds, builds, lists and removes those of chowder-local."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from docker.errors import APIError, ImageNotFound

from chowder_local.core.errors.sandboxes import (
    ImageBuildFailed,
    ImageKept,
    ImageUnknown,
)
from chowder_local.core.settings import Settings
from chowder_local.engine.build_command import (
    build_arguments,
    build_command,
    command_env,
    find_ca_bundle,
    format_progress,
    relevant_lines,
    run_command,
)
from chowder_local.engine.connection import engine_client
from chowder_local.engine.image_recipe import (
    CHANNELS_FILE,
    Recipe,
    openclaw_version,
    read_versions,
    recipe_dir,
    recipe_of,
    versions_dir,
)
from chowder_local.engine.owned_resources import OwnedResources
from chowder_local.engine.volume_archives import read_image_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import docker
    from docker.models.images import Image

LABEL = "dev.chowder-local.image"
OPENCLAW_LABEL = "dev.chowder-local.openclaw"
NODE_LABEL = "dev.chowder-local.node"
KINDS = ("sandbox", "server")
REFUSAL = "A call to the container engine failed"
NO_STORE = "images"
"""In place of a data directory's id on containers that only serve to read an image."""

PULL_ANSWER_S = 20.0
"""The longest wait for a registry's first answer; a pull that has begun has no limit."""

_CONFLICT = 409


@dataclass(frozen=True)
class ImageInfo:
    """An image that chowder-local built; the versions are empty for the server's."""

    tag: str
    id: str
    openclaw_version: str
    size_bytes: int
    created_at: datetime
    kind: str = "sandbox"
    node_version: str = ""


def is_there(tag: str, env: Mapping[str, str]) -> bool:
    """Whether the engine has the image. Raises EngineUnavailable if the engine fails."""
    with engine_client(env, REFUSAL) as (client, _):
        return _has(client, tag)


def read_file(tag: str, path: str, env: Mapping[str, str]) -> bytes | None:
    """A file of an image that is there; None if it has no such file.

    Raises EngineUnavailable if the engine fails.
    """
    with engine_client(env, REFUSAL) as (client, _):
        return read_image_file(OwnedResources(client, NO_STORE), tag, path)


def list_images(env: Mapping[str, str]) -> list[ImageInfo]:
    """Every tag of our images, the newest first. Raises EngineUnavailable if the engine fails."""
    with engine_client(env, REFUSAL) as (client, _):
        labelled = client.images.list(filters={"label": LABEL})
        images = (image for image in labelled if image.labels[LABEL] in KINDS)
        infos = [_info(image, tag) for image in images for tag in image.tags]
    return sorted(infos, key=lambda info: info.created_at, reverse=True)


def remove(tag: str, env: Mapping[str, str]) -> None:
    """Removes one of our images.

    Raises ImageUnknown if it does not exist, and ImageKept if it is not ours or is in use.
    """
    with engine_client(env, REFUSAL) as (client, _):
        try:
            if client.images.get(tag).labels.get(LABEL) not in KINDS:
                raise ImageKept(tag, "it was not built by chowder-local")
            client.images.remove(tag)
        except ImageNotFound:
            raise ImageUnknown(tag) from None
        except APIError as refusal:
            if refusal.status_code == _CONFLICT:
                raise ImageKept(tag, "a container still uses it") from refusal
            raise


def build(
    settings: Settings,
    progress: Callable[[str], None],
    *,
    env: Mapping[str, str],
    no_cache: bool = False,
    version: str | None = None,
) -> str:
    """Builds the image of an OpenClaw release, by default the settings' own, and returns its tag.

    `progress` gets a line at each step, and the lines that the step prints. Raises
    ImageBuildFailed, which quotes the failed step, and EngineUnavailable if the engine fails.
    """
    if version is None and settings.image is not None:
        raise ImageBuildFailed(
            f"CHOWDER_IMAGE names your own image, {settings.image}. Build or pull that image "
            "yourself, or unset CHOWDER_IMAGE to use the built-in one."
        )
    recipe = recipe_of(version or openclaw_version(settings))
    tag = recipe.tag(settings.base_image)
    if not recipe.is_locked:
        recipe = recipe.with_files(resolve(recipe, settings, progress, env=env))
    with recipe.context() as folder:
        return build_folder(
            settings,
            progress,
            env=env,
            folder=folder,
            tag=tag,
            arguments=lambda base: build_arguments(base, recipe.versions, env),
            subject="The sandbox image",
            no_cache=no_cache,
        )


def resolve(
    recipe: Recipe, settings: Settings, progress: Callable[[str], None], *, env: Mapping[str, str]
) -> dict[str, bytes]:
    """What the recipe of a release that is not pinned here has of its own: Node, packages, locks.

    Raises ImageBuildFailed if the npm registry has no such release, and as `build`.
    """
    with TemporaryDirectory(prefix="chowder-local-") as name:
        context, output = Path(name) / "context", Path(name) / "resolved"
        context.mkdir()
        for each in ("Dockerfile", "resolve.mjs"):
            shutil.copyfile(versions_dir() / each, context / each)
        shutil.copyfile(recipe_dir() / CHANNELS_FILE, context / "channels.json")
        build_folder(
            settings,
            progress,
            env=env,
            folder=context,
            tag=f"the packages of OpenClaw {recipe.openclaw_version}",
            arguments=lambda base: build_arguments(base, recipe.versions, env),
            subject=f"OpenClaw {recipe.openclaw_version}",
            # A channel may have had a release since.
            no_cache=True,
            output=output,
        )
        files = [path for path in output.rglob("*") if path.is_file()]
        return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def build_folder(
    settings: Settings,
    progress: Callable[[str], None],
    *,
    env: Mapping[str, str],
    folder: Path,
    tag: str,
    arguments: Callable[[str], Mapping[str, str]],
    subject: str,
    file: Path | None = None,
    no_cache: bool = False,
    output: Path | None = None,
) -> str:
    """Builds an image from a folder, and returns its tag.

    `arguments` returns the Dockerfile's ARGs for the name of the base image; `subject` names the
    image in errors. With `output`, the image's files are written to that folder instead. Raises
    ImageBuildFailed and EngineUnavailable as `build` does.
    """
    ca_bundle = find_ca_bundle(settings.ca_bundle, env)
    with engine_client(env, REFUSAL) as (client, address):
        env = command_env(address, env)
        base = _base_image(client, settings, progress, env, ca_bundle)
        command = build_command(
            folder=folder,
            tag=tag,
            arguments=arguments(base),
            ca_bundle=ca_bundle,
            no_cache=no_cache,
            file=file,
            output=output,
        )
        progress(f"building {tag} on {base} (about 2 minutes)")
        code, lines = run_command(command, env, partial(_report, progress))
    if code != 0:
        quoted = "\n  ".join(relevant_lines(lines))
        raise ImageBuildFailed(f"{subject} could not be built:\n  {quoted}")
    return tag


def _base_image(
    client: docker.DockerClient,
    settings: Settings,
    progress: Callable[[str], None],
    env: Mapping[str, str],
    ca_bundle: Path | None,
) -> str:
    """The name of a base image that is on the engine, was pulled, or was built from packages."""
    name = settings.base_image
    if _has(client, name):
        return name
    progress(f"pulling {name}")
    code, lines = run_command(
        ["docker", "pull", name],
        env,
        # The error is reported below, with its consequence.
        lambda line: None if line.startswith("Error") else progress(line),
        answer_within_s=PULL_ANSWER_S,
    )
    if code == 0:
        return name
    reason = lines[-1] if lines else f"no answer within {PULL_ANSWER_S:.0f} s"
    local_name = f"chowder-local/base:trixie-node{read_versions(recipe_dir())['NODE_VERSION']}"
    # A base image that the operator chose is never replaced by another.
    is_default = name == Settings.model_fields["base_image"].default
    is_built = is_default and _has(client, local_name)
    if not is_built and not (is_default and _can_build_base()):
        raise ImageBuildFailed(
            f"The base image {name} is not on the engine and could not be pulled ({reason}). Copy "
            "it from another machine with 'docker save' and 'docker load', or name another one "
            "with CHOWDER_BASE_IMAGE. As root on Debian, it is built without a registry."
        )
    progress(f"the pull failed: {reason}")
    if is_built:
        return local_name
    progress("building the base image from Debian and npm packages instead")
    if ca_bundle is not None:
        env = {**env, "NODE_EXTRA_CA_CERTS": str(ca_bundle)}
    code, lines = run_command(["sh", str(recipe_dir() / "base-image"), local_name], env, progress)
    if code != 0:
        quoted = "\n  ".join(relevant_lines(lines))
        raise ImageBuildFailed(f"The base image could not be built:\n  {quoted}")
    return local_name


def _can_build_base() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def _report(progress: Callable[[str], None], line: str) -> None:
    if (step := format_progress(line)) is not None:
        progress(step)


def _has(client: docker.DockerClient, tag: str) -> bool:
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def _info(image: Image, tag: str) -> ImageInfo:
    return ImageInfo(
        tag=tag,
        id=image.short_id,
        openclaw_version=image.labels.get(OPENCLAW_LABEL, ""),
        size_bytes=image.attrs["Size"],
        created_at=datetime.fromisoformat(image.attrs["Created"]),
        kind=image.labels[LABEL],
        node_version=image.labels.get(NODE_LABEL, ""),
    )
