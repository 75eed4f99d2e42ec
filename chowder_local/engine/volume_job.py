"""Programs that run on the volume of a paused or exited sandbox, in their own containers."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import NotFound

from chowder_local.engine import specs
from chowder_local.engine.container_exec import DockerProcess, take_socket
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    import docker
    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxId
    from chowder_local.engine.owned_resources import OwnedResources
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
