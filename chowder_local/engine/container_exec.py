"""Programs inside containers and the containers' logs, streamed over the engine's socket."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from docker.errors import APIError

from chowder_local.core.errors.sandboxes import (
    EngineSilent,
    EngineUnavailable,
    SandboxMissing,
    SandboxPaused,
)
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from contextlib import ExitStack
    from datetime import datetime
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from chowder_local.engine.connection import EngineAddress

READ_BYTES = 256 * 1024
COMPLAINT_BYTES = 8 * 1024
_HEADER = struct.Struct(">BxxxL")
_STDERR = 2


class Frames:
    """Parses an engine's stream of a container's two outputs: frames with a header each.

    https://docs.docker.com/reference/api/engine/ (ContainerAttach: stream format)
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._output = 0
        self._left = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yields an output's number (1 or 2) and its bytes, for each part of a frame in `chunk`."""
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


@dataclass(eq=False, repr=False)
class DockerProcess:
    """A program whose input and outputs share one socket. It needs no thread."""

    connection: socket.socket
    idle_timeout_s: float

    def __post_init__(self) -> None:
        self._frames = Frames()
        self._received: deque[bytes] = deque()
        self._stderr_tail = bytearray()

    async def write(self, chunk: bytes) -> None:
        """Writes to the program's standard input; waits until the connection takes the bytes."""
        loop = asyncio.get_running_loop()
        await self._bounded(loop.sock_sendall(self.connection, chunk))

    async def read(self) -> bytes:
        """The next bytes of the program's standard output; empty at its end."""
        loop = asyncio.get_running_loop()
        while not self._received:
            # Data that is there already is received without a pause, and it may never end.
            await asyncio.sleep(0)
            chunk = await self._bounded(loop.sock_recv(self.connection, READ_BYTES))
            if not chunk:
                return b""
            for output, content in self._frames.feed(chunk):
                if output != _STDERR:
                    self._received.append(content)
                else:
                    self._stderr_tail = (self._stderr_tail + content)[-COMPLAINT_BYTES:]
        return self._received.popleft()

    @property
    def stderr_tail(self) -> str:
        """The end of the program's standard error so far."""
        return self._stderr_tail.decode(errors="replace").strip()

    async def _bounded(self, action: Any) -> Any:
        try:
            async with asyncio.timeout(self.idle_timeout_s):
                return await action
        except TimeoutError:
            raise EngineUnavailable(
                f"The sandbox sent and read no data for {self.idle_timeout_s:.0f} s."
            ) from None
        except OSError as broken:
            raise EngineUnavailable(
                f"The connection to the sandbox broke: {broken.strerror}."
            ) from broken


def take_socket(file: Any) -> socket.socket:
    """The non-blocking socket behind a stream of the SDK; the caller closes it.

    Uses private parts of the SDK, `_sock` and `_response`, as no other place does.
    """
    connection: socket.socket = getattr(file, "_sock", file).dup()
    # The SDK's response warns if its socket is closed before it.
    file._response.close()
    connection.setblocking(False)
    return connection


def start_exec(
    client: docker.DockerClient, container: Container, command: Sequence[str], stack: ExitStack
) -> socket.socket:
    """Starts a program in a container as the container's user; the stack closes the connection.

    Blocks. Raises SandboxPaused if the container is paused, and the SDK's errors.
    """
    if container.status == "paused":
        raise SandboxPaused
    try:
        exec_id = client.api.exec_create(container.id, list(command), stdin=True)["Id"]
        connection = take_socket(client.api.exec_start(exec_id, socket=True))
    except APIError as refused:
        # Somebody paused the container since its status was read.
        if refused.status_code == HTTPStatus.CONFLICT and "is paused" in str(refused.explanation):
            raise SandboxPaused from None
        raise
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
    """Runs a command, which must end soon: whether it succeeded, and its output. Blocks."""
    exec_id = client.api.exec_create(container_id, list(command), **options)["Id"]
    output_text = client.api.exec_start(exec_id).decode(errors="replace").strip()
    return client.api.exec_inspect(exec_id)["ExitCode"] == 0, output_text


def python_command(program: str) -> list[str]:
    """The command that runs a program of `engine.programs`, before its arguments."""
    source = (resources.files("chowder_local.engine.programs") / program).read_text("utf-8")
    # -I and -S keep Python from importing files that an agent can write.
    return ["/usr/bin/python3", "-I", "-S", "-c", source]


def run_privileged(
    client: docker.DockerClient, container: Container, program: str, *arguments: str
) -> tuple[bool, str]:
    """Runs a program of `engine.programs` as root with all capabilities; else as `run_exec`."""
    command = [*python_command(program), *arguments]
    return run_exec(client, container.id, command, user="0", privileged=True, workdir="/")


def last_line(output: str) -> str:
    """The last line of a failed program's output, as the reason for an error message."""
    return (output.splitlines() or ["the program printed no reason"])[-1]


async def follow(
    address: EngineAddress,
    container_id: str,
    line_count: int,
    since: datetime | None,
    timeout_s: float,
) -> AsyncGenerator[bytes, None]:
    """Yields the last lines of a container's log and then new ones, until the container ends.

    With `since`, older lines do not count. The first chunk is empty, and comes once the log is
    open. `timeout_s` bounds the wait for the engine's answer, not for lines. A broken connection
    ends the log. Before the first chunk, raises SandboxMissing if the container is gone,
    EngineSilent if the engine does not answer, and EngineUnavailable if it refuses.
    """
    base_url, connector = _http_endpoint(address)
    # A follower may wait for hours, so there is no total limit.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        url = f"{base_url}/containers/{container_id}/logs"
        query = {"follow": "1", "stdout": "1", "stderr": "1", "tail": str(line_count)}
        if since is not None:
            query["since"] = str(since_s(since))
        try:
            async with asyncio.timeout(timeout_s):
                response = await session.get(url, params=query)
        except (aiohttp.ClientError, TimeoutError) as failure:
            raise EngineSilent(
                "The container engine does not answer (could not follow a log). Is it running?"
            ) from failure
        try:
            if response.status != HTTPStatus.OK:
                raise _error(response.status, await response.read())
            yield b""
            frames = Frames()
            async for chunk in response.content.iter_any():
                if output := b"".join(content for _, content in frames.feed(chunk)):
                    yield output
        except aiohttp.ClientError:
            return
        finally:
            response.close()


def since_s(since: datetime | None) -> float | None:
    """A time as the engine takes it: in seconds, and not before 1970."""
    return None if since is None else max(since.timestamp(), 1.0)


def _http_endpoint(address: EngineAddress) -> tuple[str, aiohttp.BaseConnector]:
    """The base URL of the engine's API, and the connector for it."""
    scheme, _, rest = address.url.partition("://")
    if scheme in {"unix", "http+unix"}:
        return "http://localhost", aiohttp.UnixConnector(rest)
    host = urlsplit(address.url).netloc
    if address.cert_dir is None:
        return f"{'https' if scheme == 'https' else 'http'}://{host}", aiohttp.TCPConnector()
    return f"https://{host}", aiohttp.TCPConnector(ssl=_tls(address.cert_dir))


def _tls(cert_dir: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cert_dir / "ca.pem")
    context.load_cert_chain(cert_dir / "cert.pem", cert_dir / "key.pem")
    return context


def _error(status: int, body: bytes) -> EngineUnavailable | SandboxMissing:
    try:
        reason = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"HTTP {status}"
    if status == HTTPStatus.NOT_FOUND:
        return SandboxMissing(f"Could not follow a log: {reason}.")
    return EngineUnavailable(f"The engine could not follow a log: {reason}.")
