"""Archives of what is on sandboxes' volumes, as the engine makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from docker.types import Mount

from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.engine import labels
from chowder_local.engine.error_translation import in_words
from chowder_local.engine.specs import AGENT_UID, HOME
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker
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
        return work(_archive(container))


def put_home(container: Container, archive: Path) -> None:
    """Unpacks it in a container that has not started yet. Blocking; raises the SDK's errors.

    Raises SandboxMissing if it is not there: not the engine is to blame, and to wait is no use.
    """
    try:
        file = archive.open("rb")
    except OSError as lost:
        words = f"What the sandbox is to be made of cannot be read: {lost.strerror}."
        raise SandboxMissing(words) from lost
    with file:
        container.put_archive(HOME, file)


def rework_home(
    client: docker.DockerClient,
    store_id: str,
    image: str,
    program: str,
    source: Path,
    work: Callable[[Iterator[bytes]], Result],
) -> Result:
    """What `work` makes of an archive that a Python program, which reaches nothing, has changed.

    Blocking; raises EngineUnavailable if the program fails.
    """
    container = client.containers.create(
        image,
        ["-I", "-S", "-c", program, HOME],
        entrypoint="/usr/bin/python3",
        labels=labels.store_labels(store_id),
        network_mode="none",
        user=f"{AGENT_UID}:{AGENT_UID}",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        read_only=True,
        mem_limit="1g",
        pids_limit=64,
        mounts=[Mount(HOME, None, type="volume")],
    )
    try:
        ensure_awaited()
        put_home(container, source)
        ensure_awaited()
        container.start()
        if container.wait()["StatusCode"]:
            said = container.logs(tail=1).decode(errors="replace").strip()
            raise EngineUnavailable(f"A home could not be reworked: {said or 'it says nothing'}.")
        return work(_archive(container))
    finally:
        container.remove(force=True, v=True)


def _archive(container: Container) -> Iterator[bytes]:
    # In words here: to whoever takes the chunks, a broken connection would look like a full disk.
    with in_words("copy a home"):
        for chunk in container.get_archive(HOME, chunk_size=CHUNK_BYTES)[0]:
            ensure_awaited()
            yield chunk
