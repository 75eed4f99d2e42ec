"""The engine's stream format, cut anywhere, and what its socket may do."""

from __future__ import annotations

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
async def test_frames_are_read_however_they_are_cut(
    ends: tuple[socket.socket, socket.socket], piece_bytes: int
) -> None:
    ours, engines = ends
    process = process_on(ours)
    sent = b"".join(
        [frame(STDOUT, b"one "), frame(STDERR, b"oh"), frame(STDOUT, b""), frame(STDOUT, b"two")]
    )
    said = b""
    for start in range(0, len(sent), piece_bytes):
        engines.sendall(sent[start : start + piece_bytes])
    engines.shutdown(socket.SHUT_WR)
    while chunk := await process.read():
        said += chunk
    assert said == b"one two"
    assert process.complaint == "oh"


async def test_of_many_complaints_the_last_are_kept(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, engines = ends
    process = process_on(ours)
    engines.sendall(frame(STDERR, b"early " + b"x" * COMPLAINT_BYTES) + frame(STDERR, b"late"))
    engines.shutdown(socket.SHUT_WR)
    assert await process.read() == b""
    assert len(process.complaint) == COMPLAINT_BYTES
    assert process.complaint.endswith("late")


async def test_what_is_written_arrives(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, engines = ends
    process = process_on(ours)
    await process.write(b"hello")
    assert engines.recv(100) == b"hello"


async def test_a_reader_that_stalls_is_given_up(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = ends
    process = process_on(ours, idle_timeout_s=0.05)
    with pytest.raises(EngineUnavailable, match="not moved"):
        await process.write(b"x" * 50_000_000)


async def test_a_connection_that_breaks_is_told_in_words(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, engines = ends
    process = process_on(ours)
    engines.close()
    with pytest.raises(EngineUnavailable, match="broke off"):
        await process.write(b"x")


def test_the_sdk_still_hands_out_what_its_socket_hangs_on(tmp_path: Path) -> None:
    """Fails on a release of the SDK that keeps the private parts elsewhere."""
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
