"""The streams between a server and its workers, over real sockets."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.swarm import tunnel
from chowder_local.engine.swarm.tunnel import Listeners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from chowder_local.engine.swarm.tunnel import Streams

pytestmark = pytest.mark.anyio

SECRET = "s" * 64
HOST = "127.0.0.1"


async def echo(streams: Streams) -> None:
    """Answers what it is sent, until its caller ends."""
    reader, writer = streams
    if await tunnel.greet(reader) != ["echo"]:
        tunnel.refuse(writer, "only echo is here")
        return
    tunnel.accept(writer)
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    async with Listeners.opened() as listeners:
        yield listeners


@pytest.fixture
async def port(listeners: Listeners) -> int:
    return await listeners.listen(HOST, 0, echo, tunnel.server_tls(SECRET))


async def test_who_has_the_secret_gets_its_stream(port: int) -> None:
    reader, writer = await tunnel.dial(HOST, port, SECRET, "echo")
    sent = bytes(range(256)) * 8192
    writer.write(sent)
    assert await reader.readexactly(len(sent)) == sent
    writer.close()


@pytest.mark.parametrize("other", ["t" * 64, ""])
async def test_who_has_another_secret_gets_nothing(port: int, other: str) -> None:
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await tunnel.dial(HOST, port, other, "echo")


async def test_who_speaks_without_encryption_gets_nothing(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"echo\n")
    assert b"ok" not in await reader.read()
    writer.close()


async def test_a_caller_hears_why_it_is_refused(port: int) -> None:
    with pytest.raises(EngineUnavailable, match="refuses: only echo is here"):
        await tunnel.dial(HOST, port, SECRET, "shell")


async def test_a_machine_that_is_not_there_is_named(listeners: Listeners, port: int) -> None:
    listeners.end(HOST, port)
    with pytest.raises(EngineUnavailable, match=f"The node at {HOST} does not answer"):
        await tunnel.dial(HOST, port, SECRET, "echo")


async def test_a_forwarded_connection_ends_with_either_of_its_ends(
    listeners: Listeners, port: int
) -> None:
    dialled = partial(tunnel.dial, HOST, port, SECRET, "echo")
    near = await listeners.listen(HOST, 0, partial(tunnel.forward, dialled=dialled))
    reader, writer = await asyncio.open_connection(HOST, near)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await listeners.close()
    assert await reader.read() == b""
    writer.close()


async def test_a_connection_whose_target_is_gone_just_ends(listeners: Listeners, port: int) -> None:
    dialled = partial(tunnel.dial, HOST, port, SECRET, "elsewhere")
    near = await listeners.listen(HOST, 0, partial(tunnel.forward, dialled=dialled))
    reader, writer = await asyncio.open_connection(HOST, near)
    assert await reader.read() == b""
    writer.close()


@contextmanager
def other_machine() -> Iterator[tuple[list[str], str, Callable[[], None]]]:
    """A network namespace: how to run a program in it, its address, and how to cut its cable."""
    name, outer, inner = f"chowder-{os.getpid()}", f"cl{os.getpid()}o", f"cl{os.getpid()}i"
    address = "10.213.79.2"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        ip("addr", "add", "10.213.79.1/24", "dev", outer)
        ip("link", "set", outer, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", inner)
        ip("-n", name, "link", "set", inner, "up")
        yield (
            ["ip", "netns", "exec", name],
            address,
            partial(ip, "-n", name, "link", "set", inner, "down"),
        )
    finally:
        # The namespace alone would keep it for a moment.
        subprocess.run(["ip", "link", "del", outer], check=False)
        ip("netns", "del", name)


SERVE = """
import asyncio, sys
from tests.unit.engine.swarm.test_tunnel import SECRET, echo
from chowder_local.engine.swarm import tunnel
from chowder_local.engine.swarm.tunnel import Listeners

async def serve():
    async with Listeners.opened() as listeners:
        print(await listeners.listen(sys.argv[1], 0, echo, tunnel.server_tls(SECRET)), flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="it makes a network, as root on Linux"
)
@pytest.mark.parametrize("says", [b"", b"are you there?"], ids=["idle", "sending"])
async def test_a_stream_ends_when_its_other_machine_is_cut_off(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch, says: bytes
) -> None:
    monkeypatch.setattr(tunnel, "SILENCE_S", 2)
    monkeypatch.setattr(tunnel, "PROBE_INTERVAL_S", 1)
    with other_machine() as (within, address, cut):
        served = await asyncio.create_subprocess_exec(
            *within, sys.executable, "-c", SERVE, address, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert served.stdout is not None
            port = int(await served.stdout.readline())
            dialled = partial(tunnel.dial, address, port, SECRET, "echo")
            near = await listeners.listen(HOST, 0, partial(tunnel.forward, dialled=dialled))
            reader, writer = await asyncio.open_connection(HOST, near)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            cut()
            writer.write(says)
            assert await reader.read() == b""
            writer.close()
        finally:
            served.kill()
            await served.wait()
