"""Running one of our own programs in a sandbox with rights that its agent does not have."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container


def run_rooted(
    client: docker.DockerClient, container: Container, name: str, *arguments: str
) -> tuple[bool, str]:
    """Whether it ended well, and what it said. Blocking; it must end by itself, and soon."""
    program = (resources.files("chowder_local.engine.programs") / name).read_text("utf-8")
    # -I and -S: nothing that an agent can write is looked at.
    command = ["python3", "-I", "-S", "-c", program, *arguments]
    made = client.api.exec_create(container.id, command, user="0", privileged=True, workdir="/")
    said = client.api.exec_start(made["Id"]).decode(errors="replace").strip()
    return client.api.exec_inspect(made["Id"])["ExitCode"] == 0, said


def disk_bytes(client: docker.DockerClient, container: Container, root: str, limit: int) -> int:
    """What the sandbox takes of the disk. Blocking; raises EngineUnavailable."""
    return _number(client, container, "measure.py", root, "/proc", str(limit))


def disk_free_bytes(client: docker.DockerClient, container: Container, root: str) -> int:
    """What is left where the sandbox's files are. Blocking; raises EngineUnavailable."""
    return _number(client, container, "free.py", root)


def _number(client: docker.DockerClient, container: Container, name: str, *arguments: str) -> int:
    is_done, said = run_rooted(client, container, name, *arguments)
    if not is_done or not said.isdecimal():
        words = (said.splitlines() or ["it does not say why"])[-1]
        raise EngineUnavailable(f"The sandbox {container.name} cannot be measured: {words}.")
    return int(said)
