"""Sandboxes as Docker containers: what instances ask of an engine, done with the Docker SDK."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from chowder_local.domain import GATEWAY_PORT, SandboxId, SandboxInfo, SandboxState
from chowder_local.engine import labels, specs
from chowder_local.engine.connection import open_client
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

NOT_PREPARED = "The engine is not prepared yet; try again in a moment."

_STATES = {
    "created": SandboxState.CREATED,
    "running": SandboxState.RUNNING,
    "restarting": SandboxState.RUNNING,
    "paused": SandboxState.PAUSED,
    "exited": SandboxState.EXITED,
    "dead": SandboxState.EXITED,
    "removing": SandboxState.EXITED,
}


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

        def call() -> SandboxNetwork:
            with _words("look for the sandbox image"):
                try:
                    self._client.images.get(image)
                except ImageNotFound:
                    raise ImageMissing(image) from None
            with _words("make the sandbox network"):
                return ensure_network(self._client, self._store_id)

        network = await self._threads.run(call)
        self._around = specs.Surroundings(
            self._store_id,
            image,
            network.name,
            network.relay_address,
            limits,
            ca_bundle,
            environment,
        )
        return network

    async def version(self) -> str:
        """The engine's name and version; that it answers at all is the point."""

        def call() -> str:
            with _words("ask the engine for its version"):
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
            with _words(f"read {path} of the sandbox image"):
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
            with _words(f"boot sandbox {spec.id}"):
                self._discard(spec.id)
                self._ensure_volume(spec.id)
                container = self._client.containers.create(**options)
                if files:
                    container.put_archive(specs.STATE_DIR, specs.archive(files))
                container.start()
                container.reload()
                return _info(spec.id, container.attrs)

        return await self._threads.run(call)

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        """The sandbox as it is now; MISSING if its container is gone."""

        def call() -> SandboxInfo:
            with _words(f"inspect sandbox {sandbox_id}"):
                container = self._find(sandbox_id)
                if container is None:
                    return SandboxInfo(sandbox_id, SandboxState.MISSING)
                return _info(sandbox_id, container.attrs)

        return await self._threads.run(call)

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        """Every sandbox of ours, in one call to the engine, however many there are."""

        def call() -> dict[SandboxId, SandboxInfo]:
            with _words("list the sandboxes"):
                rows = self._client.api.containers(
                    all=True, filters=labels.store_filter(self._store_id)
                )
                found = (_info_of_row(row) for row in rows)
                return {info.id: info for info in found if info is not None}

        return await self._threads.run(call)

    async def volumes(self) -> set[SandboxId]:
        """The ids of all sandboxes that have a volume, with or without a container."""

        def call() -> set[SandboxId]:
            with _words("list the volumes"):
                found = self._client.volumes.list(filters=labels.store_filter(self._store_id))
                return {SandboxId(str(volume.name)) for volume in found}

        return await self._threads.run(call)

    async def pause(self, sandbox_id: SandboxId) -> None:
        """Freezes the sandbox's processes; memory and connections stay."""
        await self._act(sandbox_id, "pause", _pause)

    async def unpause(self, sandbox_id: SandboxId) -> None:
        """Lets a paused sandbox go on where it was."""
        await self._act(sandbox_id, "unpause", lambda container: container.unpause())

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Destroys container and volume; nothing happens if they are gone already."""

        def call() -> None:
            with _words(f"remove sandbox {sandbox_id}"):
                self._discard(sandbox_id)
                found = self._client.volumes.list(
                    filters=labels.sandbox_filter(self._store_id, sandbox_id)
                )
                for volume in found:
                    volume.remove(force=True)

        await self._threads.run(call)

    async def log_tail(self, sandbox_id: SandboxId, line_count: int) -> str:
        """The last lines that the sandbox printed; empty if it is gone."""

        def call() -> str:
            with _words(f"read the log of sandbox {sandbox_id}"):
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
            with _words(f"follow the log of sandbox {sandbox_id}"):
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
            with _words(f"run a program in sandbox {sandbox_id}"):
                container = self._find(sandbox_id)
                if container is None:
                    raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
                if container.status == "paused":
                    raise SandboxPaused
                made = self._client.api.exec_create(container.id, list(command), stdin=True)
                return made["Id"], self._client.api.exec_start(made["Id"], socket=True)

        def inspect() -> Any:
            with _words(f"ask after a program in sandbox {sandbox_id}"):
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
            with _words(f"{verb} sandbox {sandbox_id}"):
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


@contextmanager
def _words(doing: str) -> Iterator[None]:
    """Turns what the SDK raises into EngineUnavailable with words for a person."""
    try:
        yield
    except NotFound as gone:
        raise SandboxMissing(f"Could not {doing}: {gone.explanation or gone}.") from gone
    except APIError as refused:
        reason = refused.explanation or str(refused)
        raise EngineUnavailable(f"The engine could not {doing}: {reason}.") from refused
    except (DockerException, RequestException, OSError) as failure:
        raise EngineUnavailable(
            f"The container engine does not answer (could not {doing}). Is it running?"
        ) from failure


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


def _info(sandbox_id: SandboxId, attributes: dict[str, Any]) -> SandboxInfo:
    state = attributes["State"]
    bindings = attributes["NetworkSettings"]["Ports"].get(f"{GATEWAY_PORT}/tcp") or []
    port = next((binding["HostPort"] for binding in bindings), None)
    return SandboxInfo(
        sandbox_id,
        _STATES[state["Status"]],
        gateway_url=None if port is None else f"http://127.0.0.1:{port}",
        exit_code=state.get("ExitCode"),
        is_oom_killed=bool(state.get("OOMKilled")),
    )


def _info_of_row(row: dict[str, Any]) -> SandboxInfo | None:
    """From one row of the engine's list, which tells less than an inspection."""
    sandbox_id = labels.sandbox_of(row.get("Labels"))
    if sandbox_id is None:
        return None
    ports = (port.get("PublicPort") for port in row.get("Ports") or [])
    port = next(filter(None, ports), None)
    return SandboxInfo(
        SandboxId(sandbox_id),
        _STATES[row["State"]],
        gateway_url=None if port is None else f"http://127.0.0.1:{port}",
    )
