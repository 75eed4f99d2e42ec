"""Archives of what is on sandboxes' volumes, as the engine makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docker.types import Mount

from chowder_local.engine import labels
from chowder_local.engine.specs import AGENT_UID, HOME
from chowder_local.engine.threads import ensure_awaited
from chowder_local.errors.requests import ArchiveRefused
from chowder_local.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from chowder_local.domain import SandboxId
    from chowder_local.engine.own import Own

CHUNK_BYTES = 1024 * 1024


def save_home(own: Own, sandbox_id: SandboxId, image: str, target: Path, limit: int) -> None:
    """Writes the archive. Blocking; raises SandboxMissing, ArchiveRefused, the SDK's errors.

    Through the engine, and not from volume to volume: to start a container that copies takes
    longer than to send what a usual agent has.
    """
    with own.holding_volume(sandbox_id, image, HOME) as container:
        _save(container, target, limit)


def rework_home(
    client: docker.DockerClient,
    store_id: str,
    image: str,
    program: str,
    source: Path,
    target: Path,
    limit: int,
) -> None:
    """Lets a Python program change an archive of a home, in a container that reaches nothing.

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
        with source.open("rb") as file:
            container.put_archive(HOME, file)
        ensure_awaited()
        container.start()
        if container.wait()["StatusCode"]:
            said = container.logs(tail=1).decode(errors="replace").strip()
            raise EngineUnavailable(f"A home could not be reworked: {said or 'it says nothing'}.")
        _save(container, target, limit)
    finally:
        container.remove(force=True, v=True)


def _save(container: Container, target: Path, limit: int) -> None:
    left = limit
    with target.open("wb") as file:
        for chunk in container.get_archive(HOME, chunk_size=CHUNK_BYTES)[0]:
            ensure_awaited()
            left -= len(chunk)
            if left < 0:
                raise ArchiveRefused(f"it has more than {limit} bytes.")
            file.write(chunk)
