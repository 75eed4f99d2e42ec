"""Programs that run beside a sandbox: on its volume, while it is paused or ended."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, suppress
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


class VolumeJobs:
    """Runs each program in a container of its own, which is gone afterwards.

    What a program of a sandbox may be asked is asked of it in the same way.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        threads: Threads,
        own: OwnedResources,
        template: Callable[[], specs.SandboxTemplate],
        timeout_s: float,
    ) -> None:
        self._client = client
        self._threads = threads
        self._own = own
        self._template = template
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[DockerProcess]:
        """Runs a program on the sandbox's volume; leaving the block ends it.

        Should the server die meanwhile, its input ends, and with that the program; the container
        is taken away at the next start.
        The caller sees to it that the volume is not taken away meanwhile.
        Raises EngineUnavailable, ImageMissing, SandboxMissing.
        """
        template = self._template()
        options = specs.job_options(sandbox_id, template, command)

        # A caller who is cancelled gets no result, but what has begun has to be ended by somebody.
        begun: list[Container] = []

        def begin(open_ends: ExitStack) -> socket.socket:
            with translated_errors(
                "run a program beside", sandbox_id=sandbox_id, image=template.image
            ):
                # The engine would make a volume that is not there.
                self._own.check_volume(sandbox_id)
                ensure_awaited()
                container = self._client.containers.create(**options)
                try:
                    ensure_awaited()
                    file = self._client.api.attach_socket(str(container.id), params=_STREAMS)
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
                open_ends.callback(connection.close)
                begun.append(container)
                return connection

        try:
            with ExitStack() as open_ends:
                connection = await self._threads.run(begin, open_ends)
                yield DockerProcess(connection, self._timeout_s)
        finally:
            for container in begun:
                await self._threads.run(_end, sandbox_id, container)


def _end(sandbox_id: SandboxId, container: Container) -> None:
    with translated_errors("end a program beside", sandbox_id=sandbox_id):
        _remove(container)


def _remove(container: Container) -> None:
    # Not left to the engine: when that is done by itself, the volume is in use a little longer.
    with suppress(NotFound):
        container.remove(force=True)
