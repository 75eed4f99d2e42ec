"""A cheap load generator: persistent connections, with one request at a time on each."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from benchmarks.waiting import NotMeasured

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = b"HTTP/1.1 200"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """A GET request and its address."""

    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def request(self) -> bytes:
        """The bytes of the request."""
        lines = [f"GET {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Load:
    """The result: the duration of each answer, and of all."""

    durations_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.durations_s) / self.elapsed_s


def run(target: Target, connections: int, seconds: float) -> Load:
    """Sends requests for some seconds. Raises NotMeasured if an answer is no 200."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(target, connections, seconds))


async def _run(target: Target, connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    load = Load()
    make = partial(_Connection, target.request, load)
    made = [
        (await loop.create_connection(make, "127.0.0.1", target.port))[1]
        for _ in range(connections)
    ]
    began_s = time.perf_counter()
    try:
        for each in made:
            each.send()
        # The duration of the measurement; a failure ends it early.
        await asyncio.wait([each.failed for each in made], timeout=seconds)
    finally:
        load.elapsed_s = time.perf_counter() - began_s
        for each in made:
            each.close()
    for each in made:
        if each.failed.done():
            raise NotMeasured(f"GET {target.path}: {each.failed.result()}")
    if not load.durations_s:
        raise NotMeasured(f"GET {target.path}: no answer within {seconds:g} s")
    return load


class _Connection(asyncio.Protocol):
    """Sends the next request when the last answer is complete."""

    def __init__(self, request: bytes, load: Load) -> None:
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._request = request
        self._load = load
        self._transport: asyncio.WriteTransport | None = None
        self._answer = b""
        self._missing = 0
        self._sent_s = 0.0
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write"):
            self._transport = transport  # type: ignore[assignment]  # uvloop's class is not a subclass

    def send(self) -> None:
        if self._transport is None:
            return
        self._answer, self._missing = b"", 0
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def close(self) -> None:
        self._is_closing = True
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._missing:
            # The body of an answer is not needed.
            self._missing -= len(data)
            if not self._missing:
                self._next()
            return
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head)
        if not head.startswith(OK) or length is None:
            self._fail(" ".join(self._answer[:300].decode(errors="replace").split()))
            return
        self._missing = int(length[1]) - len(body)
        if not self._missing:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_closing:
            self._fail(f"the server hung up: {exc}")

    def _next(self) -> None:
        self._load.durations_s.append(time.perf_counter() - self._sent_s)
        self.send()

    def _fail(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_result(reason)
