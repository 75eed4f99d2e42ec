"""The server in a container: its image, built from this package, and one for tests."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from docker.errors import NotFound

import chowder_local
from chowder_local.engine.connection import engine_client
from chowder_local.engine.image_recipe import recipe_digest, recipe_dir, versions_dir
from chowder_local.engine.images import LABEL, REFUSAL, build_folder
from chowder_local.engine.store_resources import sweep
from chowder_local.engine.volume_archives import read_container_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import docker
    from docker.models.containers import Container

    from chowder_local.core.settings import Settings
    from chowder_local.engine.connection import EngineAddress

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


PORT = 2469
SOCKET = "/var/run/docker.sock"
STORE_FILE = "/data/store.id"
KEY_FILE = "/data/default.key"
LOG_LINES = 20

RIGHTS: Mapping[str, Any] = {
    "cap_drop": ["ALL"],
    "cap_add": ["CHOWN", "KILL", "SETGID", "SETUID"],
    "security_opt": ["no-new-privileges"],
    "init": True,
}
"""As in compose.yaml: enough to switch to an unprivileged user, and to stop that process."""

_OVERRIDE = "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE"


@dataclass(frozen=True)
class ServerContainer:
    """A server's container; `port` is on the loopback, `key` is the default organization's."""

    is_running: bool
    port: int | None
    key: str | None
    log_tail: str


def engine_socket_path(address: EngineAddress, env: Mapping[str, str]) -> str:
    """The path of the engine's socket on the engine's own machine, for a mount (pure).

    On a virtual machine it differs from the path here. Testcontainers' variable overrides it.
    """
    if override := env.get(_OVERRIDE):
        return override
    path = address.url.partition("://")[2]
    is_usual = not address.url.startswith("unix://") or sys.platform != "linux"
    return SOCKET if is_usual or "/." in path else path


def run_server(name: str, tag: str, environment: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Starts the container unless it already runs that image. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, address):
        image = client.images.get(tag)
        container = _find(client, name)
        if container is not None:
            if container.status == "running" and container.attrs["Image"] == image.id:
                return
            _remove(client, container)
        options: dict[str, Any] = {
            "name": name,
            "environment": dict(environment),
            "ports": {f"{PORT}/tcp": ("127.0.0.1", None)},
            "volumes": [f"{engine_socket_path(address, env)}:{SOCKET}"],
        }
        client.containers.run(tag, detach=True, **options, **RIGHTS)


def inspect_server(name: str, env: Mapping[str, str]) -> ServerContainer | None:
    """The container's state; None if it does not exist. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, _):
        if (container := _find(client, name)) is None:
            return None
        bindings = container.attrs["NetworkSettings"]["Ports"].get(f"{PORT}/tcp") or []
        return ServerContainer(
            is_running=container.status == "running",
            port=next((int(binding["HostPort"]) for binding in bindings), None),
            key=read_file(container, KEY_FILE),
            log_tail=container.logs(tail=LOG_LINES).decode(errors="replace"),
        )


def remove_server(name: str, env: Mapping[str, str]) -> None:
    """Removes the container, its agents and its data. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, _):
        if (container := _find(client, name)) is not None:
            _remove(client, container)


def read_file(container: Container, path: str) -> str | None:
    """The text of a container's file, stripped; None if there is no such file."""
    content = read_container_file(container, path)
    return None if content is None else content.decode().strip()


def _find(client: docker.DockerClient, name: str) -> Container | None:
    try:
        return client.containers.get(name)
    except NotFound:
        return None


def _remove(client: docker.DockerClient, container: Container) -> None:
    store_id = read_file(container, STORE_FILE)
    container.remove(force=True, v=True)
    if store_id:
        sweep(client, store_id)
