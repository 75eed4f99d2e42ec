"""How a forwarder keeps, shares and ends connections, with servers that say what a test says."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors.upstream import StreamBroken, UpstreamFailed
from chowder_local.upstream.forward import LONGEST_HEADER_BYTES, Forwarder, open_client
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from chowder_local.upstream.forward import UpstreamAnswer

    Script = Callable[["Server", asyncio.StreamWriter], Awaitable[None]]

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DEADLINE_S = 10.0
BUFFERED_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024
MANY = 120
"""More than aiohttp by itself would have open at once."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The loop that other tests run on, and the one that serves."""
    return "asyncio", {"use_uvloop": request.param}


@dataclass
class Server:
    """Answers every request as its script says, and tells what came."""

    script: Script
    url: str = ""
    connections: int = 0
    lost: int = 0
    sent_bytes: int = 0
    """Of `without_end`."""
    requests: list[bytes] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().rpartition(b"content-length: ")[2].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.script(self, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    served = Server(script)
    # Who does not fit into the backlog would be tried again after a second.
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, backlog=MANY)
    host, port = server.sockets[0].getsockname()
    served.url = f"http://{host}:{port}"
    try:
        yield served
    finally:
        server.close()


def saying(*pieces: bytes) -> Script:
    """Sends some bytes and leaves the connection open."""

    async def script(_: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(pieces))
        await writer.drain()

    return script


def ending(*pieces: bytes) -> Script:
    """Sends some bytes and ends the connection."""

    async def script(_: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(pieces))
        writer.close()

    return script


@asynccontextmanager
async def open_forwarder(
    keepalive_s: float = 20.0, total_timeout_s: float = math.inf
) -> AsyncIterator[Forwarder]:
    async with open_client(is_proxied=False, keepalive_s=keepalive_s) as client:
        yield Forwarder(
            client,
            first_byte_timeout_s=None,
            idle_timeout_s=None,
            total_timeout_s=total_timeout_s,
        )


@asynccontextmanager
async def asking(
    forwarder: Forwarder, url: str, body: bytes = b""
) -> AsyncIterator[UpstreamAnswer]:
    async with asyncio.timeout(DEADLINE_S):
        answer = await forwarder.open("POST", f"{url}/v1/x", [("X-Mine", "1")], body)
        try:
            yield answer
        finally:
            await answer.close()


async def read(forwarder: Forwarder, url: str, body: bytes = b"") -> tuple[int, bytes]:
    async with asking(forwarder, url, body) as answer:
        return answer.status, await answer.read()


async def test_a_request_goes_out_whole_and_its_answer_comes_back() -> None:
    async with serving(saying(WHOLE)) as server, open_forwarder() as forwarder:
        assert await read(forwarder, server.url, b"{}") == (200, b"hello")
    (request,) = server.requests
    host = server.url.removeprefix("http://").encode()
    head = b"POST /v1/x HTTP/1.1\r\nHost: %b\r\nX-Mine: 1\r\nContent-Length: 2\r\n\r\n" % host
    assert request == head + b"{}"


async def test_one_connection_serves_one_request_after_the_other() -> None:
    async with serving(saying(WHOLE)) as server, open_forwarder() as forwarder:
        for _ in range(5):
            assert await read(forwarder, server.url) == (200, b"hello")
    assert (server.connections, len(server.requests)) == (1, 5)


async def test_requests_at_the_same_time_have_a_connection_each_however_many_they_are() -> None:
    async def together(server: Server, writer: asyncio.StreamWriter) -> None:
        # Nobody is answered before all have asked.
        if len(server.requests) == MANY:
            server.may_go_on.set()
        await server.may_go_on.wait()
        await saying(WHOLE)(server, writer)

    async with serving(together) as server, open_forwarder() as forwarder:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(read(forwarder, server.url)) for _ in range(MANY)]
        assert {each.result() for each in asked} == {(200, b"hello")}
        assert server.connections == MANY
        # And all of them are kept.
        async with asyncio.TaskGroup() as tasks:
            for _ in range(MANY):
                tasks.create_task(read(forwarder, server.url))
        assert server.connections == MANY


async def test_a_connection_that_is_not_used_is_ended() -> None:
    async with (
        serving(saying(WHOLE)) as server,
        open_forwarder(keepalive_s=0.001) as forwarder,
    ):
        await read(forwarder, server.url)
        await eventually(lambda: server.lost == 1, "the server sees it end")
        assert await read(forwarder, server.url) == (200, b"hello")
    assert server.connections == 2


@pytest.mark.parametrize(
    "script",
    [
        saying(WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")),
        # What nobody asked for can only be a mistake, and would be taken for the next answer.
        saying(WHOLE, WHOLE),
    ],
    ids=["about to end", "too much"],
)
async def test_a_connection_that_is_no_good_any_more_is_not_used_again(script: Script) -> None:
    async with serving(script) as server, open_forwarder() as forwarder:
        for number in (1, 2, 3):
            assert await read(forwarder, server.url) == (200, b"hello")
            await eventually(partial(_has_lost, server, number), "the connection is gone")
    assert server.connections == 3


def _has_lost(server: Server, count: int) -> bool:
    return server.lost == count


async def test_what_has_come_is_given_before_the_next_piece_is_sent() -> None:
    async def script(server: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\none\r\n")
        await server.may_go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with (
        serving(script) as server,
        open_forwarder() as forwarder,
        asking(forwarder, server.url) as answer,
    ):
        chunks = answer.chunks()
        assert await anext(chunks) == b"one"
        server.may_go_on.set()
        assert [chunk async for chunk in chunks] == [b"two"]


async def test_what_came_together_is_given_together() -> None:
    pieces = CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with (
        serving(saying(pieces)) as server,
        open_forwarder() as forwarder,
        asking(forwarder, server.url) as answer,
    ):
        assert [chunk async for chunk in answer.chunks()] == [b"onetwo"]


async def test_an_answer_that_is_split_anywhere_is_the_same() -> None:
    whole = CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"

    async def script(server: Server, writer: asyncio.StreamWriter) -> None:
        for place in range(len(whole)):
            writer.write(whole[place : place + 1])
            await asyncio.sleep(0)

    async with serving(script) as server, open_forwarder() as forwarder:
        assert await read(forwarder, server.url) == (200, b"hello")


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, (200, b"hello")),
        (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", (503, b"no")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (200, b"")),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, b"until the end")),
    ],
    ids=["interim", "an error", "no content", "nothing", "no length"],
)
async def test_each_kind_of_answer_is_understood(said: bytes, heard: tuple[int, bytes]) -> None:
    async with serving(ending(said)) as server, open_forwarder() as forwarder:
        assert await read(forwarder, server.url) == heard


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (b"", UpstreamFailed),
        (WHOLE[:20], UpstreamFailed),
        (b"SSH-2.0-OpenSSH\r\n", UpstreamFailed),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * LONGEST_HEADER_BYTES, UpstreamFailed),
        (WHOLE[:-1], StreamBroken),
        (CHUNKED, StreamBroken),
        (CHUNKED + b"5\r\nhel", StreamBroken),
        (CHUNKED + b"zz\r\n", UpstreamFailed),
    ],
    ids=range(8),
)
async def test_an_answer_that_breaks_off_or_is_none_is_a_failure(
    said: bytes, failure: type[UpstreamFailed | StreamBroken]
) -> None:
    async with serving(ending(said)) as server, open_forwarder() as forwarder:
        with pytest.raises(failure) as failed:
            await read(forwarder, server.url)
    assert str(failed.value)
    if isinstance(failed.value, UpstreamFailed):
        assert failed.value.is_sent


async def test_a_head_without_an_end_is_given_up() -> None:
    async def script(_: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    async with serving(script) as server, open_forwarder() as forwarder:
        with pytest.raises(UpstreamFailed, match="Too many headers"):
            await read(forwarder, server.url)


async def test_a_server_that_is_not_there_is_a_failure_of_a_request_that_was_not_sent() -> None:
    async with serving(saying(WHOLE)) as server:
        pass
    async with open_forwarder() as forwarder:
        with pytest.raises(UpstreamFailed) as failed:
            await read(forwarder, server.url)
    assert not failed.value.is_sent


async def test_leaving_before_the_end_hangs_up_and_the_next_one_asks_anew() -> None:
    async def script(server: Server, writer: asyncio.StreamWriter) -> None:
        answers = [CHUNKED + b"3\r\none\r\n", WHOLE]
        writer.write(answers[len(server.requests) - 1])

    async with serving(script) as server, open_forwarder() as forwarder:
        async with asking(forwarder, server.url) as answer:
            assert await anext(answer.chunks()) == b"one"
        await eventually(lambda: server.lost == 1, "the server sees it")
        assert await read(forwarder, server.url) == (200, b"hello")


async def test_a_request_that_is_cancelled_hangs_up() -> None:
    async with serving(saying()) as server, open_forwarder() as forwarder:
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(read(forwarder, server.url))
            await eventually(lambda: server.requests, "the request is there")
            asking.cancel()
        await eventually(lambda: server.lost == 1, "the server sees it")


async def test_whoever_leaves_an_answer_unread_leaves_nothing_of_it_to_the_next() -> None:
    async def script(server: Server, writer: asyncio.StreamWriter) -> None:
        await saying(WHOLE.replace(b"hello", b"first") if len(server.requests) == 1 else WHOLE)(
            server, writer
        )

    async with serving(script) as server, open_forwarder() as forwarder:
        async with asking(forwarder, server.url) as answer:
            assert answer.is_success
        assert await read(forwarder, server.url) == (200, b"hello")


async def without_end(server: Server, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED)
    while True:
        writer.write(b"%x\r\n%b\r\n" % (CHUNK_BYTES, b"x" * CHUNK_BYTES))
        await writer.drain()
        server.sent_bytes += CHUNK_BYTES


async def read_slowly(answer: UpstreamAnswer) -> None:
    async for _ in answer.chunks():
        # The next chunk is there before it is wanted.
        await asyncio.sleep(0.05)


async def test_an_answer_without_end_is_given_up_even_if_its_reader_is_slow() -> None:
    async with (
        serving(without_end) as server,
        open_forwarder(total_timeout_s=0.3) as forwarder,
        asking(forwarder, server.url) as answer,
    ):
        with pytest.raises(StreamBroken, match=r"has not ended within 0\.3 seconds"):
            await read_slowly(answer)


async def test_a_server_waits_for_whoever_does_not_read() -> None:
    async with (
        serving(without_end) as server,
        open_forwarder() as forwarder,
        asking(forwarder, server.url) as answer,
    ):
        before = -1
        while server.sent_bytes != before:
            before = server.sent_bytes
            await asyncio.sleep(0.2)
        chunks = answer.chunks()
        assert len(await anext(chunks)) < 4 * BUFFERED_BYTES
        # It goes on as soon as somebody reads.
        read_bytes = 0
        async for chunk in chunks:
            read_bytes += len(chunk)
            if read_bytes > before + 8 * BUFFERED_BYTES:
                break


async def test_closing_hangs_up_on_all() -> None:
    async with serving(saying(WHOLE)) as server:
        async with open_forwarder() as forwarder:
            await read(forwarder, server.url)
            async with asking(forwarder, server.url):
                pass
        await eventually(lambda: server.lost == server.connections, "all are gone")
