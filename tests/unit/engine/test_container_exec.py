"""The engine's stream format, split anywhere, and the socket behind it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import docker
import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.container_exec import COMPLAINT_BYTES, DockerProcess, take_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STDOUT, STDERR = 1, 2


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end, and the engine's."""
    ours, engines = socket.socketpair()
    ours.setblocking(False)
    yield ours, engines
    ours.close()
    engines.close()


def frame(stream: int, content: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(content)) + content


def process_on(connection: socket.socket, idle_timeout_s: float = 5.0) -> DockerProcess:
    return DockerProcess(connection, idle_timeout_s)


@pytest.mark.parametrize("piece_bytes", [1, 3, 8, 9, 1000])
async def test_frames_are_parsed_however_they_are_split(
    ends: tuple[socket.socket, socket.socket], piece_bytes: int
) -> None:
    ours, engines = ends
    process = process_on(ours)
    sent = b"".join(
        [frame(STDOUT, b"one "), frame(STDERR, b"oh"), frame(STDOUT, b""), frame(STDOUT, b"two")]
    )
    output = b""
    for start in range(0, len(sent), piece_bytes):
        engines.sendall(sent[start : start + piece_bytes])
    engines.shutdown(socket.SHUT_WR)
    while chunk := await process.read():
        output += chunk
    assert output == b"one two"
    assert process.stderr_tail == "oh"


async def test_only_the_end_of_standard_error_is_kept(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, engines = ends
    process = process_on(ours)
    engines.sendall(frame(STDERR, b"early " + b"x" * COMPLAINT_BYTES) + frame(STDERR, b"late"))
    engines.shutdown(socket.SHUT_WR)
    assert await process.read() == b""
    assert len(process.stderr_tail) == COMPLAINT_BYTES
    assert process.stderr_tail.endswith("late")


async def test_written_bytes_arrive(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, engines = ends
    process = process_on(ours)
    await process.write(b"hello")
    assert engines.recv(100) == b"hello"


async def test_a_write_to_a_stalled_reader_times_out(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = ends
    process = process_on(ours, idle_timeout_s=0.05)
    with pytest.raises(EngineUnavailable, match="sent and read no data"):
        await process.write(b"x" * 50_000_000)


async def test_a_broken_connection_is_an_error_with_its_cause(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, engines = ends
    process = process_on(ours)
    engines.close()
    with pytest.raises(EngineUnavailable, match="broke: "):
        await process.write(b"x")


def test_the_sdk_still_has_the_private_parts_of_its_socket(tmp_path: Path) -> None:
    """Fails on a release of the SDK without `_sock` and `_response`."""
    path = tmp_path / "engine.sock"
    hijacked = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    with socket.create_server(str(path), family=socket.AF_UNIX) as engine:
        thread = threading.Thread(target=answer_and_echo, args=(engine, hijacked))
        thread.start()
        api = docker.APIClient(base_url=f"unix://{path}", version="1.45")
        with closing(api), closing(take_socket(api.exec_start("x", socket=True))) as connection:
            connection.setblocking(True)
            connection.settimeout(5)
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
        thread.join()


def answer_and_echo(engine: socket.socket, answer: bytes) -> None:
    connection, _ = engine.accept()
    with connection:
        # The head, and the JSON of the body.
        request = b""
        while not request.endswith(b"}"):
            request += connection.recv(65536)
        connection.sendall(answer)
        connection.sendall(connection.recv(100))


async def test_a_flood_on_standard_error_lets_others_run() -> None:
    class Flooded(socket.socket):
        def recv(self, *_: int) -> bytes:
            return frame(STDERR, b"x")

    with Flooded() as connection:
        connection.setblocking(False)
        reading = asyncio.create_task(process_on(connection).read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
