"""HTTP connections, and how much of the server a client may take with one: memory, time, places."""

from __future__ import annotations

import logging
import resource
import sys
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    import asyncio
    from typing import Self

    from starlette.types import Receive

log = logging.getLogger(__name__)

MOST_DESCRIPTORS = 10_240
"""What macOS allows; many systems begin with 1,024 or fewer."""
SHARES = 5
"""A message takes four descriptors at most: a client's, a gateway's, a sandbox's, a provider's."""
MOST_CONNECTIONS = 2_000


class Connection(HttpToolsProtocol):
    """Uvicorn's, which by itself waits for a head without end and keeps one of any length.

    Uvicorn refuses requests beyond its `limit_concurrency`; before that, a connection that waits
    for nothing makes room for a new one.
    """

    head_bytes = 64 * 1024
    head_s = 15.0
    """For a whole head; or for the rest of a body that was answered before its end."""

    # Uvicorn narrows it, too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a place, if need be that of the connection that has been idle for longest."""
        super().connection_made(transport)
        self._idle_since_s, self._latest = self.loop.time(), self.cycle
        # Of a head, or of what belongs to no head and no body: extensions and trailers of chunks.
        self._loose_bytes = 0
        self._make_room()

    def _make_room(self) -> None:
        if self.limit_concurrency is None or len(self.connections) < self.limit_concurrency:
            return
        if idle := [each for each in self._others() if each.is_idle]:
            min(idle, key=lambda each: each._idle_since_s).transport.abort()

    def _others(self) -> list[Self]:
        return [each for each in self.connections if isinstance(each, type(self)) and each != self]

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request is being done for it."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Takes in what came, unless too much has come of what has no other bound."""
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > self.head_bytes and not self.transport.is_closing():
            self._refuse(431, "The request's head is too large.")

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser, whose exception is being handled, could not read."""
        if isinstance(sys.exception(), httptools.HttpParserInvalidURLError):
            msg = "The request's path or query has bytes that have to be percent-encoded."
        self._refuse(400, msg)

    def on_headers_complete(self) -> None:
        self._loose_bytes = 0
        super().on_headers_complete()
        # What comes after a body is no header of it, and must not be taken for one.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        super().on_body(body)

    def check_idle(self) -> None:
        """Ends the connection if its client is late with a head; called every second."""
        now_s = self.loop.time()
        if not self.is_idle or self.cycle is not self._latest:
            # Seen from here, so that no request has to note it.
            self._idle_since_s, self._latest = now_s, self.cycle
        # What is still to be read may be as slow as it likes.
        if self.transport.get_write_buffer_size() or now_s - self._idle_since_s <= self.head_s:
            return
        if self._loose_bytes and not self.transport.is_closing():
            self._refuse(408, "The request's head did not come in time.")
        else:
            self.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answers without a request, in the one shape, and hangs up."""
        body = b'{"detail":"%s"}' % message.encode()
        head = (
            b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % len(body)
        )
        if self.is_idle or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + head + body)
        log.info("a connection is refused: %s", message)
        self.transport.close()


class SandboxConnection(Connection):
    """A connection of an agent that may be hostile: its address has a share of the places.

    A client that reads nothing of what it is sent is dropped.
    """

    unread_s = 65.0
    _unread_bytes = 0
    _unread_since_s = 0.0

    def _make_room(self) -> None:
        address = self._address
        same = sum(each._address == address for each in self._others())
        if address is not None and same >= self.most_of_one_address:
            self._refuse(429, "Too many connections from this address.")
        else:
            super()._make_room()

    @property
    def most_of_one_address(self) -> int:
        """How many connections an address may have; the loopback, which is everybody's, any."""
        return max((self.limit_concurrency or MOST_CONNECTIONS) // 8, 16)

    @property
    def _address(self) -> str | None:
        """Where the client is; None on the loopback, which is one address for all."""
        address = "" if self.client is None else self.client[0].removeprefix("::ffff:")
        return None if address.startswith(("127.", "::1")) else address

    def resume_writing(self) -> None:
        self._unread_since_s = self.loop.time()
        super().resume_writing()

    def check_idle(self) -> None:
        """Ends the connection also if its client reads nothing."""
        super().check_idle()
        now_s, unread_bytes = self.loop.time(), self.transport.get_write_buffer_size()
        if not unread_bytes or not self._unread_bytes or unread_bytes < self._unread_bytes:
            self._unread_since_s = now_s
        self._unread_bytes = unread_bytes
        if unread_bytes and now_s - self._unread_since_s > self.unread_s:
            log.info("a client that reads nothing is dropped")
            self.transport.abort()


def break_off(receive: Receive) -> None:
    """Hangs up in the middle of an answer, on the connection that a request comes by."""
    cycle = getattr(receive, "__self__", None)
    if isinstance(cycle, RequestResponseCycle):
        # Else uvicorn, which does the same to an answer without an end, takes it for a mistake.
        cycle.disconnected = True
        # Who sends the answer waits for its client to leave.
        cycle.message_event.set()
        cycle.transport.close()


def raise_descriptor_limit() -> None:
    """Lets this process have as many files and sockets as it may, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """How many connections leave each message all the descriptors that it needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft // SHARES, 16))
