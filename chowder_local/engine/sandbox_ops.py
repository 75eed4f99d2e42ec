"""What is looked at and done within a sandbox: its log, what it takes, and programs in it."""

from __future__ import annotations

from contextlib import ExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxPaused
from chowder_local.engine import log_stream, specs
from chowder_local.engine.engine_facts import facts_of
from chowder_local.engine.error_translation import in_words
from chowder_local.engine.exec_streams import DockerProcess, socket_of
from chowder_local.engine.privileged_exec import disk_bytes, disk_free_bytes
from chowder_local.engine.resource_usage import usage_of
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    import docker

    from chowder_local.core.domain import SandboxId, SandboxUsage
    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.engine.owned_resources import OwnedResources
    from chowder_local.engine.threads import Threads


class SandboxOps:
    """A part of the engine; what is within must bear the server's labels."""

    def __init__(
        self,
        client: docker.DockerClient,
        address: EngineAddress,
        threads: Threads,
        own: OwnedResources,
        timeout_s: float,
    ) -> None:
        self._client = client
        self._address = address
        self._threads = threads
        self._own = own
        self._timeout_s = timeout_s

    async def disk_bytes(self, sandbox_id: SandboxId, limit: int) -> int:
        """What a running sandbox takes of the disk, counted until it is more than a limit."""

        def call() -> int:
            with in_words(f"measure sandbox {sandbox_id}"):
                return disk_bytes(self._client, self._own.found(sandbox_id), specs.HOME, limit)

        return await self._threads.run(call)

    async def disk_free_bytes(self, sandbox_id: SandboxId) -> int:
        """What is left of the disk that a running sandbox's files are on."""

        def call() -> int:
            with in_words(f"look at the disk of sandbox {sandbox_id}"):
                return disk_free_bytes(self._client, self._own.found(sandbox_id), specs.HOME)

        return await self._threads.run(call)

    async def usage(self, sandbox_ids: Collection[SandboxId]) -> dict[SandboxId, SandboxUsage]:
        """What running sandboxes take, asked one after another; without those that are gone."""

        def call() -> dict[SandboxId, SandboxUsage]:
            with in_words("ask what the sandboxes take"):
                return dict(usage_of(self._client, self._own, sandbox_ids))

        return await self._threads.run(call)

    async def facts(self, address: EngineAddress) -> EngineFacts:
        """What the engine, which is at that address, says of itself."""

        def call() -> EngineFacts:
            with in_words("ask the engine how it is"):
                return facts_of(self._client, address)

        return await self._threads.run(call)

    async def log_tail(self, sandbox_id: SandboxId, line_count: int) -> str:
        """The last lines that the sandbox printed; empty if it is gone."""

        def call() -> str:
            with in_words(f"read the log of sandbox {sandbox_id}"):
                container = self._own.find(sandbox_id)
                if container is None:
                    return ""
                return container.logs(tail=line_count).decode(errors="replace")

        return await self._threads.run(call)

    async def follow_log(self, sandbox_id: SandboxId, line_count: int) -> AsyncIterator[bytes]:
        """The last lines and then each new one as it comes, until the sandbox ends.

        The first piece is empty, and comes once the log is open. Close the iterator to stop
        early. Raises SandboxMissing.
        """

        def call() -> str:
            with in_words(f"follow the log of sandbox {sandbox_id}"):
                return str(self._own.found(sandbox_id).id)

        container_id = await self._threads.run(call)
        # In no thread: a follower waits for hours, and a few dozen would stop the server.
        lines = log_stream.follow(self._address, container_id, line_count, self._timeout_s)
        async with aclosing(lines):
            async for chunk in lines:
                yield chunk

    async def unpack(self, sandbox_id: SandboxId, folder: str, archive: Iterable[bytes]) -> None:
        """Unpacks a tar in a folder of the sandbox, with more rights than the agent's."""

        def call() -> None:
            with in_words(f"put files into sandbox {sandbox_id}"):
                container = self._own.found(sandbox_id)
                container.put_archive(folder, archive)

        await self._threads.run(call)

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[DockerProcess]:
        """Runs a program in the sandbox as the agent's user; see `Processes` for its rules."""

        def begin(open_ends: ExitStack) -> tuple[str, socket.socket]:
            with in_words(f"run a program in sandbox {sandbox_id}"):
                container = self._own.found(sandbox_id)
                if container.status == "paused":
                    raise SandboxPaused
                made = self._client.api.exec_create(container.id, list(command), stdin=True)
                connection = socket_of(self._client.api.exec_start(made["Id"], socket=True))
                try:
                    ensure_awaited()
                except EngineUnavailable:
                    connection.close()
                    raise
                open_ends.callback(connection.close)
                return made["Id"], connection

        def inspect() -> Any:
            with in_words(f"ask after a program in sandbox {sandbox_id}"):
                return self._client.api.exec_inspect(exec_id)

        # A caller who is cancelled gets no result, but what has begun has to be left by somebody.
        with ExitStack() as open_ends:
            exec_id, connection = await self._threads.run(begin, open_ends)
            yield DockerProcess(connection, partial(self._threads.run, inspect), self._timeout_s)
