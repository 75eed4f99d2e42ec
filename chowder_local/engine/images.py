"""Images on the engine: is one there, build the sandbox's, list and remove what we built."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from functools import partial
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
from chowder_local.engine.image_recipe import expected_tag, read_versions, recipe_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import docker
    from docker.models.images import Image

LABEL = "dev.chowder-local.image"
OPENCLAW_LABEL = "dev.chowder-local.openclaw"
KINDS = ("sandbox", "server")
REFUSAL = "The engine does not answer about images"

PULL_ANSWER_S = 20.0
"""How long a registry may take to say anything; a pull that has begun may take its time."""

_CONFLICT = 409


@dataclass(frozen=True)
class ImageInfo:
    """An image of ours on the engine; that of the server has no OpenClaw."""

    tag: str
    id: str
    openclaw_version: str
    size_bytes: int
    created_at: datetime
    kind: str = "sandbox"


def is_there(tag: str, env: Mapping[str, str]) -> bool:
    """Whether the engine has the image. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, _):
        return _has(client, tag)


def list_images(env: Mapping[str, str]) -> list[ImageInfo]:
    """Every tag of every image that we built, newest first. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, _):
        found = client.images.list(filters={"label": LABEL})
        ours = (image for image in found if image.labels[LABEL] in KINDS)
        infos = [_info(image, tag) for image in ours for tag in image.tags]
    return sorted(infos, key=lambda info: info.created_at, reverse=True)


def remove(tag: str, env: Mapping[str, str]) -> None:
    """Removes an image of ours. Raises ImageUnknown, ImageKept, EngineUnavailable."""
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
) -> str:
    """Builds the image that the settings expect, and returns its tag.

    `progress` gets a line for a person at each step and for all that the step prints.
    Raises ImageBuildFailed, which quotes the lines that matter, and EngineUnavailable.
    """
    if settings.image is not None:
        raise ImageBuildFailed(
            f"CHOWDER_IMAGE names an image of your own, {settings.image}; "
            "build or pull it yourself, or unset it to use ours."
        )
    versions = read_versions(recipe_dir())
    return build_folder(
        settings,
        progress,
        env=env,
        folder=recipe_dir(),
        tag=expected_tag(settings),
        arguments=lambda base: build_arguments(base, versions, env),
        subject="The sandbox image",
        no_cache=no_cache,
    )


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
) -> str:
    """Builds what a folder describes, and returns the tag that it was given.

    `arguments` makes the Dockerfile's ARGs of the name of the base image. Raises ImageBuildFailed
    and EngineUnavailable.
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
    """The base that is there, or pulled, or made from Debian's and npm's packages."""
    wanted = settings.base_image
    if _has(client, wanted):
        return wanted
    progress(f"pulling {wanted}")
    code, lines = run_command(
        ["docker", "pull", wanted],
        env,
        # A refusal is told below, with what follows from it.
        lambda line: None if line.startswith("Error") else progress(line),
        answer_within_s=PULL_ANSWER_S,
    )
    if code == 0:
        return wanted
    reason = lines[-1] if lines else f"no answer within {PULL_ANSWER_S:.0f} s"
    made = f"chowder-local/base:trixie-node{read_versions(recipe_dir())['NODE_VERSION']}"
    # Another base than the one that somebody chose would be a surprise.
    is_default = wanted == Settings.model_fields["base_image"].default
    is_made = is_default and _has(client, made)
    if not is_made and not (is_default and _can_make_base()):
        raise ImageBuildFailed(
            f"The base image {wanted} is not there and could not be pulled ({reason}). Pull it "
            "where a registry answers and bring it here with 'docker save' and 'docker load', or "
            "name another with CHOWDER_BASE_IMAGE; as root on Debian it is made without a registry."
        )
    progress(f"no registry answers: {reason}")
    if is_made:
        return made
    progress("making the base from Debian's and npm's packages instead")
    if ca_bundle is not None:
        env = {**env, "NODE_EXTRA_CA_CERTS": str(ca_bundle)}
    code, lines = run_command(["sh", str(recipe_dir() / "base-image"), made], env, progress)
    if code != 0:
        quoted = "\n  ".join(relevant_lines(lines))
        raise ImageBuildFailed(f"The base image could not be made:\n  {quoted}")
    return made


def _can_make_base() -> bool:
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
    )
