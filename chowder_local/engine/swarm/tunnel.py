"""Encrypted byte streams between the server and its node workers, which share a secret.

TLS with a key that both sides have (RFC 4279) proves each side to the other, and the secret itself
never crosses the network. Swarm's own encryption of overlay networks loses all packets, without a
word, on kernels that lack IPsec. The side that calls writes one line, its target; the other answers
`ok`, or why it refuses. From then on, the connection carries what both ends of the tunnel write.
A machine that is cut off says nothing, so the kernel probes each connection and ends it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import logging_errors, owned_tasks

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handle = Callable[["Streams"], Awaitable[None]]
    Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
    Dial = Callable[[], Awaitable[Streams]]


class Listeners:
    """Each connection is handled in a task of its own; all end with the block of `opened`."""

    def __init__(self) -> None:
        self._servers: dict[object, asyncio.Server] = {}
        self._tasks: dict[asyncio.Task[None], object] = {}

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        listeners = cls()
        try:
            yield listeners
        finally:
            await listeners.close()

    async def listen(
        self, host: str, port: int, handle: Handle, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listens at an address of this machine; 0 chooses a port. Returns the port.

        Raises OSError.
        """
        server = await asyncio.start_server(self._begin(handle, host), host, port, ssl=tls)
        bound: int = server.sockets[0].getsockname()[1]
        self._servers[host, bound] = server
        return bound

    async def listen_at_path(self, path: Path, handle: Handle) -> None:
        """Listens at a Unix socket. Raises OSError."""
        self._servers[path] = await asyncio.start_unix_server(self._begin(handle, path), path)

    def end(self, host: str, port: int) -> None:
        """Listens there no more; the connections that it has accepted go on."""
        if (server := self._servers.pop((host, port), None)) is not None:
            server.close()

    def end_at_path(self, path: Path) -> None:
        """Listens at that Unix socket no more, and ends the connections that it has accepted."""
        if (server := self._servers.pop(path, None)) is not None:
            server.close()
            path.unlink(missing_ok=True)
            self.end_connections(path)

    def assign_connection(self, key: object) -> None:
        """Lets `end_connections` end the connection that the calling task handles."""
        if (task := asyncio.current_task()) in self._tasks:
            self._tasks[task] = key

    def end_connections(self, key: object) -> None:
        """Ends the accepted connections that have this key."""
        for task, each in self._tasks.items():
            if each == key:
                task.cancel()

    async def close(self) -> None:
        """Listens no more, and ends all connections."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(
        self, handle: Handle, key: object
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        async def handled(streams: Streams) -> None:
            try:
                # A connection that breaks has ended.
                with logging_errors("a connection"), suppress(OSError):
                    await handle(streams)
            finally:
                streams[1].close()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(handled((reader, writer)))
            self._tasks[task] = key
            task.add_done_callback(self._tasks.pop)

        return begin


GREETING_TIMEOUT_S = 5.0
SILENCE_S = 10
"""After so long without a sign of the other machine a stream ends: later than the link to it."""
PROBE_INTERVAL_S = 2
SECRET_CHARS = 32
SECRET_FILE = Path("/run/secrets/worker")
"""Docker puts it there; the server and its node workers share it."""
CHUNK_BYTES = 256 * 1024
_ACCEPTED = b"ok\n"
# All other ciphers use a certificate, with which anybody could answer.
_CIPHERS = "ECDHE-PSK-CHACHA20-POLY1305"


def read_secret() -> str:
    """The stack's secret. Blocks; raises SettingsInvalid if there is none."""
    try:
        secret = SECRET_FILE.read_text("utf-8").strip()
    except OSError as failure:
        raise SettingsInvalid(
            f"The stack's secret cannot be read: {SECRET_FILE}: {failure.strerror}. Deploy "
            "docker/stack.yaml, which gives it to the server and its workers."
        ) from failure
    if len(secret) < SECRET_CHARS or not secret.isalnum():
        raise SettingsInvalid(
            f"The stack's secret, {SECRET_FILE}, must be one word of at least {SECRET_CHARS} "
            "letters and digits."
        )
    return secret


@cache
def client_tls(secret: str) -> ssl.SSLContext:
    """For the side that calls. Raises SettingsInvalid if this Python cannot."""
    context = _psk_context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_psk_client_callback(lambda _: ("server", secret.encode()))
    return cast("ssl.SSLContext", context)


@cache
def server_tls(secret: str) -> ssl.SSLContext:
    """For the side that is called. Raises SettingsInvalid if this Python cannot."""
    context = _psk_context(ssl.PROTOCOL_TLS_SERVER)
    context.set_psk_server_callback(lambda _: secret.encode())
    return cast("ssl.SSLContext", context)


# Any: the types of Python 3.11 lack the methods.
def _psk_context(protocol: int) -> Any:
    if not getattr(ssl, "HAS_PSK", False):
        raise SettingsInvalid(
            "CHOWDER_SWARM needs Python 3.13 or newer, as the server's image has: deploy "
            "docker/stack.yaml."
        )
    context = ssl.SSLContext(protocol)
    # TLS 1.3 takes no list of ciphers that leaves certificates out.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    return context


class TargetRefused(EngineUnavailable):
    """The other side answers, but cannot reach the target."""


async def dial(host: str, port: int, secret: str, target: str) -> Streams:
    """A stream to the target, through the other side.

    Raises TargetRefused if the other side cannot reach the target, or else EngineUnavailable.
    """
    try:
        async with asyncio.timeout(GREETING_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=client_tls(secret))
            try:
                writer.write(f"{target}\n".encode())
                answer = await reader.readline()
            except BaseException:
                # A cancelled caller leaves no connection behind.
                writer.close()
                raise
    except (OSError, TimeoutError, ValueError) as failure:
        reason = str(failure) or "no answer in time"
        raise EngineUnavailable(f"The node at {host} does not answer: {reason}.") from failure
    _end_in_silence(writer)
    if answer != _ACCEPTED:
        writer.close()
        if reason := answer.decode(errors="replace").strip():
            raise TargetRefused(f"The node at {host} refuses: {reason}.")
        raise EngineUnavailable(f"The node at {host} does not answer: it closed the connection.")
    return reader, writer


async def greet(reader: asyncio.StreamReader) -> list[str]:
    """The words of the target that a caller names; none if it names none in time."""
    with suppress(TimeoutError, ValueError, OSError):
        async with asyncio.timeout(GREETING_TIMEOUT_S):
            line = await reader.readline()
        return line.decode(errors="replace").strip().split(" ", 1)
    return []


def accept(writer: asyncio.StreamWriter) -> None:
    """Tells the caller that its stream begins."""
    _end_in_silence(writer)
    writer.write(_ACCEPTED)


def refuse(writer: asyncio.StreamWriter, reason: str) -> None:
    """Tells the caller, in one line, why it gets no stream."""
    writer.write(f"{reason}\n".encode())


def _end_in_silence(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, PROBE_INTERVAL_S),
        (socket.TCP_KEEPINTVL, PROBE_INTERVAL_S),
        # This bounds the silence after data and after probes, and replaces the number of probes.
        (socket.TCP_USER_TIMEOUT, SILENCE_S * 1000),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def splice(one: Streams, other: Streams) -> None:
    """Copies in both directions until either end closes its connection, or one of them breaks.

    TLS has no connections that are closed in one direction only.
    """
    try:
        async with owned_tasks() as tasks:
            copies = [
                tasks.create_task(_copy(one[0], other[1])),
                tasks.create_task(_copy(other[0], one[1])),
            ]
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # The operating system still sends what has been written.
        one[1].close()
        other[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # A connection that breaks has ended, too.
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


async def forward(caller: Streams, dialled: Dial) -> None:
    """Joins a caller to what `dialled` opens; ends the caller's connection if that fails."""
    try:
        other = await dialled()
    except EngineUnavailable as failure:
        # This is usual while a gateway starts.
        log.debug("%s", failure)
        return
    await splice(caller, other)
