"""Sandboxes as Docker containers: what instances ask of an engine, done with the Docker SDK."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio
from docker.errors import APIError, ImageNotFound, NotFound

from chowder_local.domain import EngineMemory, SandboxId, SandboxInfo, SandboxState
from chowder_local.engine import labels, specs
from chowder_local.engine.connection import open_client
from chowder_local.engine.containers import info_of, info_of_row
from chowder_local.engine.failures import in_words
from chowder_local.engine.memory import memory_of
from chowder_local.engine.networks import SandboxNetwork, ensure_network
from chowder_local.engine.processes import DockerProcess
from chowder_local.engine.threads import Threads
from chowder_local.errors.sandboxes import (
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
    SandboxPaused,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    import docker
    from docker.models.containers import Container

    from chowder_local.domain import SandboxSpec
    from chowder_local.engine.connection import EngineAddress

PAUSE_ATTEMPTS = 5
"""Now and then a busy sandbox is not frozen at the first: the kernel does not catch all of it."""

STOP_TIMEOUT_S = 10
"""OpenClaw ends within a second when it is told to."""

NOT_PREPARED = "The engine is not prepared yet; try again in a moment."


class DockerEngine:
    """One server's view of an engine: it sees and touches only what bears the server's labels."""

    def __init__(
        self, client: docker.DockerClient, threads: Threads, store_id: str, timeout_s: float
    ) -> None:
        self._client = client
        self._threads = threads
        self._store_id = store_id
        self._timeout_s = timeout_s
        self._around: specs.Surroundings | None = None
        self._likeness = ""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, address: EngineAddress, store_id: str, *, timeout_s: float, thread_count: int
    ) -> AsyncIterator[Self]:
        """An engine that has answered once. Raises EngineUnavailable."""
        with Threads(thread_count, "engine") as threads:
            # A kept connection for each thread, or the SDK would throw the surplus away.
            client = await threads.run(open_client, address, timeout_s, thread_count)
            try:
                yield cls(client, threads, store_id, timeout_s)
            finally:
                client.close()

    async def prepare(
        self,
        image: str,
        limits: specs.Limits,
        ca_bundle: bytes | None,
        environment: Mapping[str, str],
    ) -> SandboxNetwork:
        """Checks the image, makes the network; sandboxes can be booted from then on.

        Raises ImageMissing, EngineUnavailable.
        """

        def call() -> tuple[str, SandboxNetwork]:
            with in_words("look for the sandbox image"):
                try:
                    image_id = str(self._client.images.get(image).id)
                except ImageNotFound:
                    raise ImageMissing(image) from None
            with in_words("make the sandbox network"):
                return image_id, ensure_network(self._client, self._store_id)

        image_id, network = await self._threads.run(call)
        self._around = specs.Surroundings(
            self._store_id,
            image,
            network.name,
            network.relay_address,
            limits,
            ca_bundle,
            environment,
        )
        self._likeness = specs.likeness(image_id, self._around)
        return network

    @property
    def likeness(self) -> str:
        """Tells apart sandboxes that were made of another image, or otherwise, than one now."""
        return self._likeness

    @property
    def failure_count(self) -> int:
        """How many calls the engine did not do."""
        return self._threads.failure_count

    async def version(self) -> str:
        """The engine's name and version; that it answers at all is the point."""

        def call() -> str:
            with in_words("ask the engine for its version"):
                answer = self._client.version()
                platform = answer.get("Platform", {}).get("Name") or "Docker Engine"
                return f"{platform} {answer.get('Version', '')}".strip()

        return await self._threads.run(call)

    async def file_of_image(self, path: str) -> bytes | None:
        """A file of the image that sandboxes are made of; None if it has no such file."""
        if self._around is None:
            raise EngineUnavailable(NOT_PREPARED)
        image = self._around.image

        def call() -> bytes | None:
            with in_words(f"read {path} of the sandbox image"):
                # Never started: an engine shows a file of a container only.
                container = self._client.containers.create(
                    image, ["true"], network_mode="none", labels=labels.store_labels(self._store_id)
                )
                try:
                    return specs.only_file(b"".join(container.get_archive(path)[0]))
                except NotFound:
                    return None
                finally:
                    container.remove(force=True, v=True)

        return await self._threads.run(call)

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        """Makes and starts the container, replacing one of that id; its volume, if any, is kept."""
        if self._around is None:
            raise EngineUnavailable(NOT_PREPARED)
        options = specs.container_options(spec, self._around)
        files = specs.files_of(spec, self._around)

        def call() -> SandboxInfo:
            with in_words(f"boot sandbox {spec.id}"):
                self._discard(spec.id)
                self._ensure_volume(spec.id)
                container = self._client.containers.create(**options)
                if files:
                    container.put_archive(specs.STATE_DIR, specs.archive(files))
                container.start()
                container.reload()
                return info_of(spec.id, container.attrs)

        return await self._threads.run(call)

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        """The sandbox as it is now; MISSING if its container is gone."""

        def call() -> SandboxInfo:
            with in_words(f"inspect sandbox {sandbox_id}"):
                container = self._find(sandbox_id)
                if container is None:
                    return SandboxInfo(sandbox_id, SandboxState.MISSING)
                return info_of(sandbox_id, container.attrs)

        return await self._threads.run(call)

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        """Every sandbox of ours, in one call to the engine, however many there are."""

        def call() -> dict[SandboxId, SandboxInfo]:
            with in_words("list the sandboxes"):
                rows = self._client.api.containers(
                    all=True, filters=labels.store_filter(self._store_id)
                )
                found = (info_of_row(row) for row in rows)
                return {info.id: info for info in found if info is not None}

        return await self._threads.run(call)

    async def volumes(self) -> set[SandboxId]:
        """The ids of all sandboxes that have a volume, with or without a container."""

        def call() -> set[SandboxId]:
            with in_words("list the volumes"):
                found = self._client.volumes.list(filters=labels.store_filter(self._store_id))
                return {SandboxId(str(volume.name)) for volume in found}

        return await self._threads.run(call)

    async def pause(self, sandbox_id: SandboxId) -> None:
        """Freezes the sandbox's processes; memory and connections stay."""
        await self._act(sandbox_id, "pause", _pause)

    async def unpause(self, sandbox_id: SandboxId) -> None:
        """Lets a paused sandbox go on where it was."""
        await self._act(sandbox_id, "unpause", lambda container: container.unpause())

    async def promote(self, sandbox_id: SandboxId) -> None:
        """Lets a spare that boots have as much of the processor as any. Raises SandboxMissing."""
        await self._act(
            sandbox_id, "promote", lambda container: container.update(cpu_shares=specs.CPU_SHARES)
        )

    async def park(self, sandbox_id: SandboxId) -> None:
        """Freezes a spare that is made; once it goes on it is like any other sandbox."""

        def act(container: Container) -> None:
            container.update(cpu_shares=specs.CPU_SHARES)
            _pause(container)

        await self._act(sandbox_id, "park", act)

    async def release(self, sandbox_id: SandboxId) -> None:
        """Ends a paused sandbox in good order: its memory is free, its volume stays."""

        def act(container: Container) -> None:
            # A frozen process would not even hear that it is to end.
            if container.status == "paused":
                container.unpause()
            container.stop(timeout=STOP_TIMEOUT_S)

        await self._act(sandbox_id, "release", act)

    async def memory(self) -> EngineMemory:
        """What the machine that sandboxes run on has, and has left."""

        def call() -> EngineMemory:
            with in_words("ask the engine for its memory"):
                return memory_of(self._client)

        return await self._threads.run(call)

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Destroys container and volume; nothing happens if they are gone already."""

        def call() -> None:
            with in_words(f"remove sandbox {sandbox_id}"):
                self._discard(sandbox_id)
                self._discard_volume(sandbox_id)

        await self._threads.run(call)

    async def log_tail(self, sandbox_id: SandboxId, line_count: int) -> str:
        """The last lines that the sandbox printed; empty if it is gone."""

        def call() -> str:
            with in_words(f"read the log of sandbox {sandbox_id}"):
                container = self._find(sandbox_id)
                if container is None:
                    return ""
                return container.logs(tail=line_count).decode(errors="replace")

        return await self._threads.run(call)

    async def follow_log(self, sandbox_id: SandboxId, line_count: int) -> AsyncIterator[bytes]:
        """The last lines and then each new one as it comes, until the sandbox ends.

        Close the iterator to stop early. Raises SandboxMissing.
        """

        def call() -> Any:
            with in_words(f"follow the log of sandbox {sandbox_id}"):
                container = self._find(sandbox_id)
                if container is None:
                    raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
                return container.logs(stream=True, follow=True, tail=line_count)

        stream = await self._threads.run(call)
        try:
            # Outside the pool: a follower waits for hours, and eight would stop the server.
            while chunk := await anyio.to_thread.run_sync(_next, stream, abandon_on_cancel=True):
                yield chunk
        finally:
            stream.close()

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[DockerProcess]:
        """Runs a program in the sandbox as the agent's user; see `Processes` for its rules."""

        def begin() -> tuple[str, Any]:
            with in_words(f"run a program in sandbox {sandbox_id}"):
                container = self._find(sandbox_id)
                if container is None:
                    raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
                if container.status == "paused":
                    raise SandboxPaused
                made = self._client.api.exec_create(container.id, list(command), stdin=True)
                return made["Id"], self._client.api.exec_start(made["Id"], socket=True)

        def inspect() -> Any:
            with in_words(f"ask after a program in sandbox {sandbox_id}"):
                return self._client.api.exec_inspect(exec_id)

        exec_id, file = await self._threads.run(begin)
        connection = _socket_of(file)
        try:
            yield DockerProcess(connection, partial(self._threads.run, inspect), self._timeout_s)
        finally:
            connection.close()

    async def _act(
        self, sandbox_id: SandboxId, verb: str, action: Callable[[Container], None]
    ) -> None:
        def call() -> None:
            with in_words(f"{verb} sandbox {sandbox_id}"):
                container = self._find(sandbox_id)
                if container is None:
                    raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
                action(container)

        await self._threads.run(call)

    def _find(self, sandbox_id: SandboxId) -> Container | None:
        try:
            container = self._client.containers.get(sandbox_id)
        except NotFound:
            return None
        if not labels.is_of_store(container.labels, self._store_id):
            raise EngineUnavailable(
                f"A container named {sandbox_id} exists that is not ours; it is left alone."
            )
        return container

    def _discard(self, sandbox_id: SandboxId) -> None:
        container = self._find(sandbox_id)
        if container is None:
            return
        try:
            container.remove(force=True)
        except APIError as refused:
            # Somebody else is removing it, or already has: what we wanted happens.
            if refused.status_code not in {404, 409}:
                raise

    def _ensure_volume(self, sandbox_id: SandboxId) -> None:
        # Creating a volume that exists is a no-op that keeps its content.
        self._client.volumes.create(
            sandbox_id, labels=labels.sandbox_labels(self._store_id, sandbox_id)
        )

    def _discard_volume(self, sandbox_id: SandboxId) -> None:
        # By its name: a list is looked through volume by volume, of everybody's.
        with suppress(NotFound):
            volume = self._client.volumes.get(sandbox_id)
            if labels.is_of_store(volume.attrs.get("Labels"), self._store_id):
                volume.remove(force=True)


def _pause(container: Container) -> None:
    for _ in range(PAUSE_ATTEMPTS - 1):
        try:
            container.pause()
        except APIError as refused:
            if not refused.is_server_error():
                raise
        else:
            return
    container.pause()


def _socket_of(file: Any) -> socket.socket:
    """The socket behind what the SDK hands out, for use by the event loop and to be closed."""
    connection: socket.socket = getattr(file, "_sock", file).dup()
    # The SDK's own end hangs on its response, which complains when it is closed from below.
    file._response.close()
    connection.setblocking(False)
    return connection


def _next(stream: Iterator[bytes]) -> bytes | None:
    return next(stream, None)
