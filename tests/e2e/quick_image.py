"""The sandbox image with a gateway that is there at once, for faults that are not OpenClaw's."""

from __future__ import annotations

import io
import secrets
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chowder_local.core.settings import Settings
from chowder_local.engine.image_recipe import expected_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

GATEWAY_FILE = Path(__file__).with_name("quick_gateway.js")


@contextmanager
def quick_image(engine: docker.DockerClient, **env: str) -> Iterator[str]:
    """The tag of an image of the test's own, which it may remove and put back.

    `env` are environment variables of its gateways.
    """
    repository, tag = "chowder-test/quick", secrets.token_hex(4)
    container = engine.containers.create(expected_tag(Settings()))
    try:
        container.put_archive("/usr/local/bin", _archive(GATEWAY_FILE.read_bytes()))
        changes = "\n".join(f"ENV {name}={value}" for name, value in env.items())
        container.commit(repository, tag, changes=changes or None)
    finally:
        container.remove()
    yield f"{repository}:{tag}"
    engine.images.remove(f"{repository}:{tag}")


def _archive(program: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("gateway")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()
