"""Images on the engine: finds, builds, lists and removes those of chowder-local."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from docker.errors import APIError, ImageNotFound

from chowder_local.core.errors.sandboxes import ImageBuildFailed, ImageKept, ImageUnknown
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import engine_client
from chowder_local.engine.containers import OwnedResources
from chowder_local.engine.image_recipe import (
    CHANNELS_FILE,
    Recipe,
    openclaw_version,
    read_versions,
    recipe_dir,
    recipe_of,
    versions_dir,
)
from chowder_local.engine.volume_archives import read_image_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import docker
    from docker.models.images import Image

    from chowder_local.engine.connection import EngineAddress

LONGEST_QUOTE = 12
"""How many lines of a failed build its error quotes."""

_KEPT_LINES = 200
_WIDTH = 100
_STEP = re.compile(r"^#\d+ \[(?:\S+ +)?(\d+/\d+)\] (.*)$")
_OUTPUT = re.compile(r"^#\d+ \d+\.\d+ (.*)$")
_DONE = re.compile(r"^#\d+ (?:DONE (\d+\.\d)s|(CACHED))$")


def build_command(
    *,
    folder: Path,
    tag: str,
    arguments: Mapping[str, str],
    ca_bundle: Path | None,
    no_cache: bool,
    file: Path | None = None,
    output: Path | None = None,
) -> list[str]:
    """The command line. `folder` is the build context; `file` defaults to its Dockerfile.

    With `output`, the result is written to that folder instead of an image.
    """
    target = ["--tag", tag] if output is None else ["--output", f"type=local,dest={output}"]
    command = ["docker", "build", "--progress", "plain", *target]
    if file is not None:
        command += ["--file", str(file)]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if ca_bundle is not None:
        # A secret is not copied into the image.
        command += ["--secret", f"id=ca,src={ca_bundle}"]
    if no_cache:
        command.append("--no-cache")
    return [*command, str(folder)]


def build_arguments(
    base_image: str, versions: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, str]:
    """The Dockerfile's ARGs, with the npm registry if the environment sets one."""
    arguments = {
        "BASE_IMAGE": base_image,
        "NODE_VERSION": versions["NODE_VERSION"],
        "OPENCLAW_VERSION": versions["OPENCLAW_VERSION"],
    }
    registry = env.get("NPM_CONFIG_REGISTRY") or env.get("npm_config_registry")
    return arguments | ({"NPM_CONFIG_REGISTRY": registry} if registry else {})


def command_env(address: EngineAddress, env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the `docker` command uses the engine at `address`."""
    variables = {name: value for name, value in env.items() if name != "DOCKER_CONTEXT"}
    variables |= {
        "DOCKER_HOST": address.url,
        "DOCKER_BUILDKIT": "1",
        # A builder in its own container neither sees local images nor leaves one on the engine.
        "BUILDX_BUILDER": "default",
    }
    if address.cert_dir is not None:
        variables |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(address.cert_dir)}
    return variables


def find_ca_bundle(chosen: Path | None, env: Mapping[str, str]) -> Path | None:
    """The CA bundle for the build: the chosen one, else the one that the host's programs use."""
    if chosen is not None:
        return chosen
    names = (env.get("NODE_EXTRA_CA_CERTS"), env.get("SSL_CERT_FILE"))
    return next((Path(name) for name in names if name and Path(name).is_file()), None)


def run_command(
    command: Sequence[str],
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    *,
    answer_within_s: float | None = None,
) -> tuple[int, list[str]]:
    """Runs a command to its end; returns its exit code and its last lines.

    `answer_within_s` bounds the wait for its first line; a command that stays silent is killed.
    Raises ImageBuildFailed if the command is not installed.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise ImageBuildFailed(
            f"Building the image needs the {command[0]!r} command, which is not on the PATH. "
            "It comes with Docker Desktop and Docker Engine (Debian: docker-cli, docker-buildx)."
        ) from None
    last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
    silence = threading.Timer(answer_within_s or 0, process.kill)
    if answer_within_s is not None:
        silence.start()
    with process:
        try:
            for line in process.stdout or ():
                silence.cancel()
                last_lines.append(line.rstrip("\n"))
                on_line(last_lines[-1])
        except BaseException:
            # Without this, the build would go on in the background after Ctrl-C.
            process.terminate()
            raise
        finally:
            silence.cancel()
    return process.returncode, list(last_lines)


def format_progress(line: str) -> str | None:
    """A line of BuildKit's plain progress, shortened; None if it has no information."""
    if step := _STEP.match(line):
        number, instruction = step.groups()
        return _cut(f"[{number}] {' '.join(instruction.split())}")
    if output := _OUTPUT.match(line):
        return _cut(output.group(1).rstrip()) or None
    if done := _DONE.match(line):
        seconds, _ = done.groups()
        # Most steps take no time; lines for them would hide the slow ones.
        return None if seconds is None or float(seconds) < 1 else f"done in {seconds} s"
    return line if line.startswith("ERROR: ") and len(line) < _WIDTH else None


def relevant_lines(lines: Sequence[str]) -> list[str]:
    """The last lines of the failed step, which BuildKit repeats between two rulers; or of all."""
    rulers = [index for index, line in enumerate(lines) if line.startswith("------")]
    if len(rulers) > 1:
        # The first line between them is the step's whole command.
        step = lines[rulers[0] + 2 : rulers[1]]
        lines = step if any(map(str.strip, step)) else lines
    output = [line.strip() for line in lines if line.strip()]
    return [_cut(line) for line in output[-LONGEST_QUOTE:]]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


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
    local_name = f"chowder-local/base:trixie-slim-node{read_versions(recipe_dir())['NODE_VERSION']}"
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
