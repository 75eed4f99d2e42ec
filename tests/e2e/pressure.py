"""Clients of every bad kind, on sockets of their own, and what a server takes of its machine."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.api import CLAUDE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

RESET = struct.pack("ii", 1, 0)
ANSWER_TIMEOUT_S = 120.0
FLOOD = 200
"""Requests at once, of one client."""
METHODS = (*["POST"] * 8, "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "CONNECT", "BREW")
LENGTHS = ("0", "5", "-1", "+5", "5, 5", "99999999999999999999", "x", "", "1e3", "0x10", " 7")
ENCODINGS = ("chunked", "gzip", "chunked, chunked", "identity", "xchunked", "chunked\x0b", "")
VALUES = ("", "\x00", "é", "\ud800", "../..", "%00", "%ff%fe", "a" * 9000, "\r\nX: y", "${jndi:x}")
TAILS = ("/%00", "/..%2f..", "?\xff=%", "//", "/é", "#x", "/" + "a/" * 500, " x")
KINDS = ("application/json", "text/plain", "multipart/form-data")
BODIES = (
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe{", b'{"a":NaN}', b'{"a":1e999}', b"[" * 5000,
    b'{"a":' * 3000, b'{"name":"\\ud800"}', b'{"name":"\x00"}', b'{"name":"a","name":7}',
    b"\xef\xbb\xbf{}", b"0" * 5000, b'{"model":"gpt-4o","input":[{"type":7}]}',
    b'{"model":"gpt-4o","messages":[[]]}', b'{"model":"gpt-4o","input":"\\udfff","stream":true}',
    b'{"contents":[{"parts":7}]}', b'{"model":"x","max_tokens":-1,"messages":{"role":1}}',
)  # fmt: skip


@dataclass(frozen=True)
class Address:
    """Where a listener is, and what it wants to hear."""

    host: str
    port: int
    name: str = "localhost"
    token: str = ""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Streams]:
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=2**20)
        try:
            yield reader, writer
        finally:
            writer.close()

    def head(self, method: str, path: str, *more: str) -> bytes:
        """A request's head; its body follows."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.name}"]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        return "\r\n".join([*lines, *more, "", ""]).encode("utf-8", "surrogatepass")

    def message(self, path: str, words: str) -> bytes:
        """A whole request for a stream."""
        body = json.dumps({"model": CLAUDE, "input": words, "stream": True}).encode()
        length = f"Content-Length: {len(body)}"
        return self.head("POST", path, "Content-Type: application/json", length) + body


@dataclass
class Tally:
    """What was done, and what came of it."""

    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def own_failures(self) -> dict[int, int]:
        """Answers that say that the server failed."""
        return {status: count for status, count in self.statuses.items() if status >= 500}


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the answer that comes; 0 if the server hangs up without one."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            line = await reader.readline()
    except ConnectionError:
        return 0
    return int(line.split()[1]) if line.startswith(b"HTTP/1.") else 0


async def read_all(address: Address, path: str, tally: Tally) -> None:
    """A client as it should be: reads a stream to its end."""
    async with address.connected() as (reader, writer):
        writer.write(address.message(path, "40 pieces of 200 every 25 ms"))
        tally.statuses[await status_of(reader)] += 1
        told = b""
        while piece := await reader.read(65_536):
            told = told[-64:] + piece
            if b"[DONE]" in told:
                tally.done["streams read"] += 1
                return
        tally.done["streams cut off"] += 1


async def stall(address: Address, path: str, tally: Tally, for_s: float) -> None:
    """Asks for megabytes and reads nothing of them."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (address.host, address.port))
        await loop.sock_sendall(client, address.message(path, "400 pieces of 20000 every 0 ms"))
        await asyncio.sleep(for_s)
    tally.done["stalled"] += 1


async def vanish(address: Address, path: str, tally: Tally) -> None:
    """Leaves in the middle, with a reset."""
    async with address.connected() as (reader, writer):
        writer.write(address.message(path, "400 pieces of 2000 every 5 ms"))
        await reader.read(random.randrange(1, 20_000))
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    tally.done["vanished"] += 1


async def flood(address: Address, path: str, tally: Tally) -> None:
    """Asks for far more than it waits for, and reads late."""
    with suppress(ConnectionError):
        async with address.connected() as (reader, writer):
            writer.write(address.head("GET", path) * FLOOD)
            await writer.drain()
            answered = 0
            while answered < FLOOD and (line := await reader.readline()):
                # The former answer's body has no end of a line.
                _, found, rest = line.partition(b"HTTP/1.1 ")
                if found:
                    tally.statuses[int(rest.split()[0])] += 1
                    answered += 1
            tally.done["flooding requests"] += answered


async def drip(address: Address, beginning: bytes, tally: Tally, for_s: float) -> None:
    """Sends a head or a body so slowly that it never ends."""
    with suppress(ConnectionError, TimeoutError):
        async with address.connected() as (reader, writer), asyncio.timeout(for_s):
            writer.write(beginning)
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await reader.read(65_536)
    tally.done["dripped"] += 1


def garbage(address: Address, chance: random.Random, paths: Sequence[str]) -> bytes:
    """A request that is wrong somehow."""
    method, path = chance.choice(METHODS), chance.choice(paths)
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 400)) + b"\r\n\r\n"
    if kind == 1:
        path += chance.choice(TAILS)
    more = [f"Content-Type: {chance.choice(KINDS)}"]
    body = chance.choice(BODIES)
    if kind == 2:
        more.append(f"{chance.choice(('X-Request-Id', 'Last-Event-ID', 'Cookie', 'X y', ''))}: "
                    + chance.choice(VALUES))  # fmt: skip
    if kind == 3:
        more += [f"Content-Length: {chance.choice(LENGTHS)}" for _ in range(chance.choice((1, 2)))]
    elif kind == 4:
        more.append(f"Transfer-Encoding: {chance.choice(ENCODINGS)}")
        body = chance.choice((b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"-1\r\n", b"f" * 40, body))
    else:
        more.append(f"Content-Length: {len(body)}")
    return address.head(method, path, *more) + body


async def throw(address: Address, request: bytes, tally: Tally) -> int:
    """Sends it, says that no more comes, and gives the status of the answer."""
    with suppress(ConnectionError):
        async with address.connected() as (reader, writer):
            writer.write(request)
            writer.write_eof()
            status = await status_of(reader)
            tally.statuses[status] += 1
            return status
    return 0


def taken(pid: int) -> dict[str, int]:
    """What a process takes: its resident memory and its descriptors."""
    status = Path(f"/proc/{pid}/status").read_text()
    (rss_kb,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return {"rss_mb": int(rss_kb) // 1024, "descriptors": descriptors}
