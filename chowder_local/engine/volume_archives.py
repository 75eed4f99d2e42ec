"""Archives of sandboxes' volumes, and single files of containers, as the engine makes them."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, TypeVar

from docker.errors import NotFound
from docker.types import Mount

from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.specs import CONFINED, HOME
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxId
    from chowder_local.engine.owned_resources import OwnedResources

Result = TypeVar("Result")

CHUNK_BYTES = 1024 * 1024


def read_home(
    own: OwnedResources,
    sandbox_id: SandboxId,
    image: str,
    work: Callable[[Iterator[bytes]], Result],
) -> Result:
    """What `work` makes of the archive. Blocking; raises SandboxMissing, and the SDK's errors.

    Through the engine, and not from volume to volume: to start a container that copies takes
    longer than to send what a usual agent has.
    """
    with own.holding_volume(sandbox_id, image, HOME) as container:
        return work(_archive(container, sandbox_id))


def put_home(container: Container, archive: Path) -> None:
    """Unpacks it in a container that has not started yet. Blocking; raises the SDK's errors.

    Raises SandboxMissing if it is not there: not the engine is to blame, and to wait is no use.
    """
    try:
        file = archive.open("rb")
    except OSError as lost:
        message = f"What the sandbox is to be made of cannot be read: {lost.strerror}."
        raise SandboxMissing(message) from lost
    with file:
        container.put_archive(HOME, file)


def rework_home(
    own: OwnedResources,
    image: str,
    program: str,
    source: Path,
    work: Callable[[Iterator[bytes]], Result],
) -> Result:
    """What `work` makes of an archive that a Python program, which reaches nothing, has changed.

    Blocking; raises EngineUnavailable if the program fails.
    """
    with own.passing_container(
        image,
        ["-I", "-S", "-c", program, HOME],
        entrypoint="/usr/bin/python3",
        **CONFINED,
        mem_limit="1g",
        pids_limit=64,
        mounts=[Mount(HOME, None, type="volume")],
    ) as container:
        ensure_awaited()
        put_home(container, source)
        ensure_awaited()
        container.start()
        if container.wait()["StatusCode"]:
            output = container.logs(tail=1).decode(errors="replace").strip()
            raise EngineUnavailable(f"A home could not be reworked: {output or 'it says nothing'}.")
        return work(_archive(container))


def read_image_file(own: OwnedResources, image: str, path: str) -> bytes | None:
    """A file of an image; None if it has no such file. Blocking; raises the SDK's errors."""
    # Never started: an engine shows a file of a container only.
    with own.passing_container(image, ["true"]) as container:
        return read_container_file(container, path)


def read_container_file(container: Container, path: str) -> bytes | None:
    """A file of a container, which need not run; None if it has no such file."""
    try:
        return read_single_file(b"".join(container.get_archive(path)[0]))
    except NotFound:
        return None


def read_single_file(content: bytes) -> bytes | None:
    """What is in a tar of one file; None if it is of something else (pure)."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        entry = tar.next()
        file = None if entry is None or not entry.isfile() else tar.extractfile(entry)
        return None if file is None else file.read()


def _archive(container: Container, sandbox_id: SandboxId | None = None) -> Iterator[bytes]:
    # Translated here: to whoever takes the chunks, a broken connection would look like a full disk.
    doing = "copy a home" if sandbox_id is None else "copy the home of"
    with translated_errors(doing, sandbox_id=sandbox_id):
        for chunk in container.get_archive(HOME, chunk_size=CHUNK_BYTES)[0]:
            ensure_awaited()
            yield chunk
