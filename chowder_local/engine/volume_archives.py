"""Volumes of sandboxes: programs that run on them, their archives, and single files."""

from __future__ import annotations

import io
import tarfile
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar

from docker.errors import NotFound
from docker.types import Mount
from requests.exceptions import RequestException

from chowder_local.core import untrusted_json
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.engine import specs
from chowder_local.engine.container_exec import DockerProcess, last_line, take_socket
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.specs import CONFINED, HOME, STATE_DIR
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxId
    from chowder_local.engine.containers import OwnedResources
    from chowder_local.engine.threads import Threads

_STREAMS = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}


@dataclass(eq=False, repr=False)
class VolumeJobs:
    """Implements `Processes`; runs each program in its own container, which is then removed."""

    client: docker.DockerClient
    threads: Threads
    own: OwnedResources
    template: Callable[[], specs.SandboxTemplate]
    timeout_s: float

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[DockerProcess]:
        """Runs a program on the sandbox's volume; leaving the block ends it.

        If the server dies, the program's input ends, and so does the program; the next start
        removes its container. The caller keeps the volume from being removed meanwhile.

        Raises ImageMissing if the engine lacks the sandbox image, SandboxMissing if the volume is
        gone, and EngineUnavailable if a call fails.
        """
        template = self.template()
        options = specs.job_options(sandbox_id, template, command)

        # A cancelled caller gets no result, so this list keeps the container to remove.
        started: list[Container] = []

        def start(stack: ExitStack) -> socket.socket:
            with translated_errors(
                "run a program on the volume of", sandbox_id=sandbox_id, image=template.image
            ):
                # The engine would create a missing volume.
                self.own.check_volume(sandbox_id)
                ensure_awaited()
                container = self.client.containers.create(**options)
                try:
                    ensure_awaited()
                    file = self.client.api.attach_socket(str(container.id), params=_STREAMS)
                    connection = take_socket(file)
                    try:
                        container.start()
                        ensure_awaited()
                    except BaseException:
                        connection.close()
                        raise
                except BaseException:
                    _remove(container)
                    raise
                stack.callback(connection.close)
                started.append(container)
                return connection

        try:
            with ExitStack() as stack:
                connection = await self.threads.run(start, stack)
                yield DockerProcess(connection, self.timeout_s)
        finally:
            for container in started:
                await self.threads.run(_end, sandbox_id, container)


def _end(sandbox_id: SandboxId, container: Container) -> None:
    with translated_errors("end a program on the volume of", sandbox_id=sandbox_id):
        _remove(container)


def _remove(container: Container) -> None:
    # Automatic removal by the engine would keep the volume in use a little longer.
    with suppress(NotFound):
        container.remove(force=True)


Result = TypeVar("Result")

CHUNK_BYTES = 1024 * 1024
PROGRAM_TIMEOUT_S = 900.0
"""For a program on a copy of a home, which may be large, on a busy machine."""
OUTPUT_MB = 4
"""The engine keeps no more of a program's output: it may be the agent's."""


def read_home(
    own: OwnedResources,
    sandbox_id: SandboxId,
    image: str,
    work: Callable[[Iterator[bytes]], Result],
) -> Result:
    """The result of `work`, which reads a tar of the sandbox's home. Blocks.

    The tar goes through the engine: starting a container that copies from volume to volume takes
    longer. Raises SandboxMissing if the volume is gone, and the SDK's errors.
    """
    with own.volume_container(sandbox_id, image, HOME) as container:
        return work(_archive(container, sandbox_id))


def put_volume(own: OwnedResources, sandbox_id: SandboxId, image: str, tar: IO[bytes]) -> None:
    """Makes a volume of a tar as `read_home` reads it. Blocks; raises the SDK's errors."""
    own.ensure_volume(sandbox_id)
    volumes = {str(sandbox_id): {"bind": HOME, "mode": "rw"}}
    with own.temporary_container(image, ["true"], volumes=volumes) as container:
        ensure_awaited()
        container.put_archive("/", tar)


def put_home(container: Container, archive: Path) -> None:
    """Unpacks an archive of a home in a container that has not started. Blocks.

    Raises SandboxMissing if the file cannot be read: the boot must not be tried again.
    """
    try:
        file = archive.open("rb")
    except OSError as failure:
        message = f"The archive of the sandbox's home cannot be read: {failure.strerror}."
        raise SandboxMissing(message) from failure
    with file:
        container.put_archive(HOME, file)


def rework_home(
    own: OwnedResources,
    image: str,
    program: str,
    source: Path,
    work: Callable[[Iterator[bytes]], Result],
) -> Result:
    """The result of `work`, which reads a tar of a home that a Python program has changed. Blocks.

    The program has no network. Raises EngineUnavailable if it fails.
    """
    with _after_program(own, image, program, source, mem_limit="1g", pids_limit=64) as container:
        return work(_archive(container))


def examine_home(
    own: OwnedResources, image: str, program: str, source: Path, state_files: bytes
) -> bytes:
    """What a Python program prints about a home with a tar of `state_files` put into it. Blocks.

    It may run OpenClaw. The program has no network. Raises EngineUnavailable if it fails. Of a
    longer output, the end is returned, some OUTPUT_MB.
    """
    with _after_program(
        own, image, program, source, state_files,
        mem_limit="2g", pids_limit=256, environment={"HOME": HOME},
        tmpfs={"/tmp": "rw,exec,nosuid,nodev,size=256m,mode=1777"},  # noqa: S108 - inside
    ) as container:  # fmt: skip
        return bytes(container.logs(stdout=True, stderr=False))


@contextmanager
def _after_program(
    own: OwnedResources,
    image: str,
    program: str,
    source: Path,
    state_files: bytes | None = None,
    **options: Any,
) -> Iterator[Container]:
    """A container whose Python program has ended on a copy of the home in `source`."""
    with own.temporary_container(
        image,
        ["-I", "-S", "-c", program, HOME],
        entrypoint="/usr/bin/python3",
        **CONFINED,
        mounts=[Mount(HOME, None, type="volume")],
        log_config={"Type": "json-file", "Config": {"max-size": f"{OUTPUT_MB}m"}},
        **options,
    ) as container:
        ensure_awaited()
        put_home(container, source)
        if state_files is not None:
            container.put_archive(STATE_DIR, state_files)
        ensure_awaited()
        container.start()
        if _exit_status(container):
            output = container.logs(tail=1).decode(errors="replace").strip()
            reason = untrusted_json.message_of(last_line(output))
            raise EngineUnavailable(f"A program failed on an agent's home: {reason}.")
        yield container


def _exit_status(container: Container) -> int:
    """Waits for the container's end."""
    try:
        return int(container.wait(timeout=PROGRAM_TIMEOUT_S)["StatusCode"])
    except RequestException as failure:
        # The SDK has no error of its own for a wait that is over.
        if "timed out" not in str(failure):
            raise
    raise EngineUnavailable(
        f"A program on an agent's home has not ended within {PROGRAM_TIMEOUT_S:g} seconds. Try "
        "again when the machine is less busy. If it fails again, what the agent keeps may hold the "
        "program up: remove the agent's plugins and large files, and try again."
    )


def read_image_file(own: OwnedResources, image: str, path: str) -> bytes | None:
    """A file of an image; None if it has no such file. Blocks; raises the SDK's errors."""
    # The engine reads files of containers only; this one never starts.
    with own.temporary_container(image, ["true"]) as container:
        return read_container_file(container, path)


def read_container_file(container: Container, path: str) -> bytes | None:
    """A file of a container, running or not; None if it has no such file."""
    try:
        return read_single_file(b"".join(container.get_archive(path)[0]))
    except NotFound:
        return None


def read_single_file(content: bytes) -> bytes | None:
    """The content of the first entry of a tar; None if it is no file (pure)."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        entry = tar.next()
        file = None if entry is None or not entry.isfile() else tar.extractfile(entry)
        return None if file is None else file.read()


def _archive(container: Container, sandbox_id: SandboxId | None = None) -> Iterator[bytes]:
    # Translated here, or `work` would take a broken connection for a full disk.
    doing = "copy a home" if sandbox_id is None else "copy the home of"
    with translated_errors(doing, sandbox_id=sandbox_id):
        for chunk in container.get_archive(HOME, chunk_size=CHUNK_BYTES)[0]:
            ensure_awaited()
            yield chunk
