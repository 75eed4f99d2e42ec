"""Programs inside containers: streamed over the engine's own socket, or run to their end."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from importlib import resources
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxPaused
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack

    import docker
    from docker.models.containers import Container

READ_BYTES = 256 * 1024
COMPLAINT_BYTES = 8 * 1024
_HEADER = struct.Struct(">BxxxL")
_STDERR = 2


class Frames:
    """Takes apart what an engine sends of a container's two outputs: frames with a header each.

    https://docs.docker.com/reference/api/engine/ (ContainerAttach: stream format)
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._output = 0
        self._left = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """The number of an output and what it said, piece by piece, in the connection's bytes."""
        rest = memoryview(chunk)
        while rest:
            if self._left:
                content, rest = bytes(rest[: self._left]), rest[self._left :]
                self._left -= len(content)
                yield self._output, content
                continue
            missing = _HEADER.size - len(self._header)
            self._header += rest[:missing]
            rest = rest[missing:]
            if len(self._header) == _HEADER.size:
                self._output, self._left = _HEADER.unpack(self._header)
                self._header.clear()


class DockerProcess:
    """A program whose input and outputs are one socket, without a thread."""

    def __init__(self, connection: socket.socket, idle_timeout_s: float) -> None:
        self._connection = connection
        self._idle_timeout_s = idle_timeout_s
        self._frames = Frames()
        self._arrived: deque[bytes] = deque()
        self._complaint = bytearray()

    async def write(self, chunk: bytes) -> None:
        """Puts bytes into its standard input; waits while it does not read them."""
        loop = asyncio.get_running_loop()
        await self._bounded(loop.sock_sendall(self._connection, chunk))

    async def read(self) -> bytes:
        """The next bytes of its standard output; empty when it has ended."""
        loop = asyncio.get_running_loop()
        while not self._arrived:
            chunk = await self._bounded(loop.sock_recv(self._connection, READ_BYTES))
            if not chunk:
                return b""
            for output, content in self._frames.feed(chunk):
                if output != _STDERR:
                    self._arrived.append(content)
                else:
                    self._complaint = (self._complaint + content)[-COMPLAINT_BYTES:]
        return self._arrived.popleft()

    @property
    def complaint(self) -> str:
        """The end of what it wrote to its standard error so far."""
        return self._complaint.decode(errors="replace").strip()

    async def _bounded(self, action: Any) -> Any:
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await action
        except TimeoutError:
            raise EngineUnavailable(
                f"The sandbox has not moved for {self._idle_timeout_s:.0f} s."
            ) from None
        except OSError as broken:
            raise EngineUnavailable(
                f"The connection into the sandbox broke off: {broken.strerror}."
            ) from broken


def take_socket(file: Any) -> socket.socket:
    """The socket behind what the SDK hands out, for use by the event loop and to be closed.

    The only place where private parts of the SDK are used: `_sock` and `_response`.
    """
    connection: socket.socket = getattr(file, "_sock", file).dup()
    # The SDK's own end hangs on its response, which complains when it is closed from below.
    file._response.close()
    connection.setblocking(False)
    return connection


def start_exec(
    client: docker.DockerClient, container: Container, command: Sequence[str], stack: ExitStack
) -> socket.socket:
    """Starts a program in a running container as its own user; the stack closes the connection.

    Blocking. Raises SandboxPaused, and the SDK's errors.
    """
    if container.status == "paused":
        raise SandboxPaused
    exec_id = client.api.exec_create(container.id, list(command), stdin=True)["Id"]
    connection = take_socket(client.api.exec_start(exec_id, socket=True))
    try:
        ensure_awaited()
    except EngineUnavailable:
        connection.close()
        raise
    stack.callback(connection.close)
    return connection


def run_exec(
    client: docker.DockerClient, container_id: str | None, command: Sequence[str], **options: Any
) -> tuple[bool, str]:
    """Whether a command ended well, and what it said. Blocking; it must end soon by itself."""
    exec_id = client.api.exec_create(container_id, list(command), **options)["Id"]
    output_text = client.api.exec_start(exec_id).decode(errors="replace").strip()
    return client.api.exec_inspect(exec_id)["ExitCode"] == 0, output_text


def run_privileged(
    client: docker.DockerClient, container: Container, program: str, *arguments: str
) -> tuple[bool, str]:
    """Runs one of our own programs with rights that the agent does not have; as `run_exec`."""
    text = (resources.files("chowder_local.engine.programs") / program).read_text("utf-8")
    # -I and -S: nothing that an agent can write is looked at.
    command = ["python3", "-I", "-S", "-c", text, *arguments]
    return run_exec(client, container.id, command, user="0", privileged=True, workdir="/")
