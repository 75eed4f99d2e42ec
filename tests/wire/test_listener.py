"""Listening sockets, and servers on them that stop when they are told to."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from chowder_local.core.errors.process import PortTaken, SettingsInvalid
from chowder_local.http.listener import bound_socket, listener, listening, with_state
from tests.scripted.serving import loopback_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

LOOPBACK = "127.0.0.1"


async def hello(request: Request) -> Response:
    return PlainTextResponse(str(getattr(request.state, "word", "hello")))


async def endless(_: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        yield b"data: x\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(events())


APP = Starlette(routes=[Route("/", hello), Route("/endless", endless)])


def url_of(bound: socket.socket) -> str:
    return f"http://{LOOPBACK}:{bound.getsockname()[1]}"


def test_a_taken_port_is_reported() -> None:
    with bound_socket(LOOPBACK, 0) as ours:
        port = ours.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} on 127.0.0.1 is taken"):
            bound_socket(LOOPBACK, port)


def test_a_released_port_can_be_bound_again_at_once() -> None:
    with bound_socket(LOOPBACK, 0) as first:
        port = first.getsockname()[1]
        # Without SO_REUSEADDR, this connection would keep the port for a minute.
        with socket.create_connection((LOOPBACK, port)):
            first.setblocking(True)
            accepted, _ = first.accept()
            accepted.close()
    with bound_socket(LOOPBACK, port) as second:
        assert second.getsockname()[1] == port


def test_a_privileged_port_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, which may bind every port.
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    hint = r"Cannot listen on 127\.0\.0\.1:80: Permission denied\. Choose a port of 1024 or above\."
    with pytest.raises(SettingsInvalid, match=hint):
        bound_socket(LOOPBACK, 80)


@pytest.mark.parametrize("host", ["203.0.113.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(SettingsInvalid, match="Cannot listen on"):
        bound_socket(host, 0)


def test_an_unknown_host_name_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="Cannot listen on"):
        bound_socket("no-such-host.invalid", 0)


async def test_a_server_answers_inside_the_block_and_its_port_is_free_after_it() -> None:
    bound = bound_socket(LOOPBACK, 0)
    port = bound.getsockname()[1]
    async with listening(APP, bound), loopback_client() as client:
        assert (await client.get(url_of(bound))).text == "hello"
    with bound_socket(LOOPBACK, port):
        pass


async def test_a_client_that_connects_before_the_server_starts_is_served() -> None:
    bound = bound_socket(LOOPBACK, 0)
    async with asyncio.TaskGroup() as group, loopback_client() as client:
        early = group.create_task(client.get(url_of(bound)))
        await asyncio.sleep(0)
        async with listening(APP, bound):
            assert (await early).text == "hello"


async def test_an_error_inside_the_block_stops_the_server() -> None:
    bound = bound_socket(LOOPBACK, 0)
    with pytest.raises(Exception, match="inside") as failed:
        async with listening(APP, bound):
            raise ValueError("inside")
    assert isinstance(failed.value, ValueError)


async def test_requests_have_the_state_that_the_lifespan_yielded() -> None:
    bound = bound_socket(LOOPBACK, 0)
    async with (
        listening(with_state(APP, {"word": "yielded"}), bound),
        loopback_client() as client,
    ):
        assert (await client.get(url_of(bound))).text == "yielded"


async def test_requests_do_not_share_their_state() -> None:
    async def count(request: Request) -> Response:
        request.state.seen = getattr(request.state, "seen", 0) + 1
        return PlainTextResponse(str(request.state.seen))

    app = with_state(Starlette(routes=[Route("/", count)]), {})
    bound = bound_socket(LOOPBACK, 0)
    async with listening(app, bound), loopback_client() as client:
        answers = [(await client.get(url_of(bound))).text for _ in range(2)]
    assert answers == ["1", "1"]


def test_the_server_installs_no_signal_handlers() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with listener(APP).capture_signals():
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
