"""Forwarding over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest

from chowder_local.core.errors.upstream import StreamBroken, UpstreamFailed
from chowder_local.upstream.forward import Forwarder, open_client

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]

TIMEOUT_S = 30.0


class Echo:
    """Answers with the request's headers, and sets a cookie."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"set-cookie", b"session=organization-1"), (b"x-two", b"1"), (b"x-two", b"2")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        names = b"\n".join(name + b": " + value for name, value in scope["headers"])
        await send({"type": "http.response.body", "body": names})


async def read(forwarder: Forwarder, url: str) -> tuple[int, list[tuple[str, str]], bytes]:
    answer = await forwarder.open("POST", url, [("x-mine", "1")], b"{}")
    try:
        chunks = [chunk async for chunk in answer.chunks()]
        return answer.status, list(answer.headers), b"".join(chunks)
    finally:
        await answer.close()


async def test_only_the_given_headers_are_sent_and_all_come_back(serve: Serve) -> None:
    async with serve(Echo()) as url, open_client(is_proxied=False) as client:
        status, headers, body = await read(Forwarder(client), url)

    assert status == 201
    assert [value for name, value in headers if name == "x-two"] == ["1", "2"]
    names = {line.split(b":")[0] for line in body.split(b"\n")}
    assert names == {b"host", b"content-length", b"x-mine"}


async def test_a_cookie_of_one_call_is_not_sent_with_the_next(serve: Serve) -> None:
    async with serve(Echo()) as url, open_client(is_proxied=False) as client:
        forwarder = Forwarder(client)
        await read(forwarder, url)
        _, _, body = await read(forwarder, url)

    assert b"cookie" not in body


async def test_a_refused_connection_was_not_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with open_client(is_proxied=False) as client:
            with pytest.raises(UpstreamFailed) as failed:
                await read(Forwarder(client), f"http://127.0.0.1:{taken.getsockname()[1]}")

    assert not failed.value.is_sent
    assert str(failed.value)


async def test_a_server_that_hangs_up_may_have_acted() -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, open_client(is_proxied=False) as client:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamFailed) as failed:
            await read(Forwarder(client), f"http://127.0.0.1:{port}")

    assert failed.value.is_sent
    assert str(failed.value)


async def test_a_url_that_is_none_is_a_failure_of_a_request_that_was_not_sent() -> None:
    async with open_client(is_proxied=False) as client:
        with pytest.raises(UpstreamFailed) as failed:
            await read(Forwarder(client), "http:///v1")
    assert not failed.value.is_sent


async def test_a_server_that_is_silent_is_given_up(serve: Serve) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serve(silent) as url, open_client(is_proxied=False) as client:
        with pytest.raises(UpstreamFailed, match=r"no answer within 0\.05 seconds"):
            await read(Forwarder(client, first_byte_timeout_s=0.05), url)


async def test_a_stream_that_stops_is_given_up(serve: Serve) -> None:
    async def stopping(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await receive()

    async with serve(stopping) as url, open_client(is_proxied=False) as client:
        with pytest.raises(StreamBroken, match="no data has arrived for too long"):
            await read(Forwarder(client, idle_timeout_s=0.05), url)


async def test_a_stream_that_breaks_off_is_told(serve: Serve) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with serve(half) as url, open_client(is_proxied=False) as client:
        with pytest.raises(StreamBroken):
            await read(Forwarder(client), url)


async def test_a_whole_answer_may_be_as_long_as_the_limit_and_not_a_byte_longer(
    serve: Serve,
) -> None:
    async with serve(Echo()) as url, open_client(is_proxied=False) as client:
        answer = await Forwarder(client).open("GET", url, [], b"")
        body = await answer.read()
        answer = await Forwarder(client).open("GET", url, [], b"")
        assert await answer.read(len(body)) == body
        answer = await Forwarder(client).open("GET", url, [], b"")
        with pytest.raises(StreamBroken, match="longer than"):
            await answer.read(len(body) - 1)
        await answer.close()


async def test_a_bundle_of_authorities_is_loaded_or_refused(tmp_path: Path) -> None:
    async with open_client(ca_bundle=Path(certifi.where())) as client:
        assert not client.closed
    with pytest.raises(FileNotFoundError):
        async with open_client(ca_bundle=tmp_path / "missing.pem"):
            pass


class Impatient(threading.Thread):
    """Answers a request on each connection, and ends it when it is told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.must_end, self.has_ended = threading.Event(), threading.Event()

    def run(self) -> None:
        for _ in range(2):
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                self.must_end.wait()
            self.has_ended.set()
        self._listener.close()


async def test_a_kept_connection_that_has_ended_unheard_is_not_used() -> None:
    server = Impatient()
    server.start()
    async with open_client(is_proxied=False) as client:
        forwarder = Forwarder(client)
        assert (await read(forwarder, server.url))[0] == 200
        server.must_end.set()
        # Not awaited: the loop is to have no chance to hear of it.
        assert server.has_ended.wait(TIMEOUT_S)
        assert (await read(forwarder, server.url))[0] == 200
    server.join(TIMEOUT_S)
