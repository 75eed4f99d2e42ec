"""One HTTP connection, and how much of us a client may take with it: memory, time and places."""

from __future__ import annotations

import logging
import resource
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive

log = logging.getLogger(__name__)

MOST_DESCRIPTORS = 10_240
"""What macOS allows; many systems begin with 1,024 or fewer."""
SHARES = 5
"""A message takes four descriptors at most: a client's, a gateway's, a sandbox's, a provider's."""
MOST_CONNECTIONS = 2_000


@dataclass(frozen=True)
class Bounds:
    """What a listener puts up with."""

    connections: int = MOST_CONNECTIONS
    """Beyond so many, who waits for nothing has to go, the longest first."""
    of_one_address: int = MOST_CONNECTIONS
    """The loopback, which is everybody's, does not count as one."""
    head_bytes: int = 64 * 1024
    head_s: float = 15.0
    """For a whole head; or for the rest of a body that was answered before its end."""
    unread_s: float = 65.0
    """For a client that reads nothing of what it is sent."""

    def for_sandboxes(self) -> Bounds:
        """Those of a listener that each sandbox calls from an address of its own."""
        return replace(self, of_one_address=max(self.connections // 8, 16))

    def with_transfers(self, idle_timeout_s: float) -> Bounds:
        """Those of a listener that leaves it to transfers to give up before."""
        return replace(self, unread_s=max(self.unread_s, idle_timeout_s + 5))


class Connection(HttpToolsProtocol):
    """Uvicorn's, which by itself waits for ever and keeps a head of any length."""

    bounds = Bounds()

    # Uvicorn narrows it, too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a place, if need be that of somebody who waits for nothing."""
        super().connection_made(transport)
        self._idle_since_s, self._latest = self.loop.time(), self.cycle
        self._unread_bytes, self._unread_since_s = 0, 0.0
        # Of a head, or of what belongs to no head and no body: extensions and trailers of chunks.
        self._loose_bytes = 0
        if len(self.connections) > min(self.bounds.of_one_address, self.bounds.connections):
            self._make_room()

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request is being done for it."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Takes in what came, unless too much has come of what has no other bound."""
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > self.bounds.head_bytes and not self.transport.is_closing():
            self._refuse(431, "The request's head is too large.")

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser, whose exception is being handled, could not read."""
        if isinstance(sys.exception(), httptools.HttpParserInvalidURLError):
            msg = "The request's path or query has bytes that have to be percent-encoded."
        self._refuse(400, msg)

    def on_headers_complete(self) -> None:
        """Begins with a request."""
        self._loose_bytes = 0
        super().on_headers_complete()
        # What comes after a body is no header of it, and must not be taken for one.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Takes a piece of a body, which is counted where it is read."""
        self._loose_bytes = 0
        super().on_body(body)

    def resume_writing(self) -> None:
        """Notes that the client reads."""
        self._unread_since_s = self.loop.time()
        super().resume_writing()

    def look(self) -> None:
        """Ends the connection if its client has stood still for too long; asked every second."""
        now_s = self.loop.time()
        unread_bytes = self.transport.get_write_buffer_size()
        if not unread_bytes or not self._unread_bytes or unread_bytes < self._unread_bytes:
            self._unread_since_s = now_s
        self._unread_bytes = unread_bytes
        if not self.is_idle or self.cycle is not self._latest:
            # Seen from here, so that no request has to note it.
            self._idle_since_s, self._latest = now_s, self.cycle
        if unread_bytes:
            if now_s - self._unread_since_s > self.bounds.unread_s:
                log.info("a client that reads nothing is dropped")
                self.transport.abort()
        elif now_s - self._idle_since_s > self.bounds.head_s:
            if self._loose_bytes and not self.transport.is_closing():
                self._refuse(408, "The request's head did not come in time.")
            else:
                self.transport.abort()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, Connection)]
        if self._address is not None:
            same = sum(each._address == self._address for each in others)
            if same > self.bounds.of_one_address:
                return self._refuse(429, "Too many connections from this address.")
        if len(others) > self.bounds.connections:
            idle = [each for each in others if each is not self and each.is_idle]
            if not idle:
                return self._refuse(503, "Too many connections.")
            min(idle, key=lambda each: each._idle_since_s).transport.abort()
        return None

    @property
    def _address(self) -> str | None:
        """Where the client is; None on the loopback, which is one address for all."""
        address = "" if self.client is None else self.client[0].removeprefix("::ffff:")
        return None if address.startswith(("127.", "::1")) else address

    def _refuse(self, status: int, words: str) -> None:
        """Answers without a request, in the one shape, and hangs up."""
        body = b'{"detail":"%s"}' % words.encode()
        head = (
            b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % len(body)
        )
        if self.is_idle or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + head + body)
        log.info("a connection is refused: %s", words)
        self.transport.close()


def break_off(receive: Receive) -> None:
    """Hangs up in the middle of an answer, on the connection that a request comes by."""
    cycle = getattr(receive, "__self__", None)
    if isinstance(cycle, RequestResponseCycle):
        # Else uvicorn, which does the same to an answer without an end, takes it for a mistake.
        cycle.disconnected = True
        cycle.transport.close()


def raise_descriptor_limit() -> None:
    """Lets this process have as many files and sockets as it may, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bounds_of_this_process() -> Bounds:
    """Bounds that leave each message all the descriptors that it needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    places = MOST_CONNECTIONS
    if soft != resource.RLIM_INFINITY:
        places = min(places, max(soft // SHARES, 16))
    return Bounds(connections=places, of_one_address=places)
