"""Sends requests to upstreams and streams their answers; owns timeouts and header filters."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import aiohttp
import certifi

from chowder_local.core.errors.upstream import StreamBroken, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Sequence
    from pathlib import Path

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

CONNECT_TIMEOUT_S = 10.0
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REPLACED = frozenset({"host", "content-length", "accept-encoding", "expect"})
_CREDENTIALS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "cookie"})
_NOT_BACK = frozenset({"set-cookie", "date", "server"})


def for_upstream(
    headers: Iterable[tuple[str, str]], credential: tuple[str, str] | None
) -> list[tuple[str, str]]:
    """The caller's headers with its credentials replaced by ours, if there is one."""
    ours = [] if credential is None else [credential]
    kept = _without(headers, _REPLACED | _CREDENTIALS | {name.lower() for name, _ in ours})
    # Bytes are forwarded unchanged, and the caller may not know a compression.
    return [*kept, ("accept-encoding", "identity"), *ours]


def for_caller(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an answer that the caller gets; its body is forwarded unchanged."""
    return _without(headers, _NOT_BACK)


def _without(headers: Iterable[tuple[str, str]], dropped: Collection[str]) -> list[tuple[str, str]]:
    pairs = [(name.lower(), value) for name, value in headers]
    # Headers that `Connection` names are for one hop only, too.
    named = {
        token.strip().lower()
        for name, value in pairs
        if name == "connection"
        for token in value.split(",")
    }
    unwanted = _HOP_BY_HOP | named | set(dropped)
    return [pair for pair in pairs if pair[0] not in unwanted]


LONGEST_HEADER_BYTES = 64 * 1024
MAX_WHOLE_BYTES = 16 * 1024 * 1024
"""The limit for an answer that is read as a whole; streamed answers have none."""
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
# Headers that aiohttp must not add by itself.
_OWN_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class _Connector(aiohttp.TCPConnector):
    """Discards pooled connections that the other side has closed.

    A busy event loop notices the close late, and a request that it sends before then is lost.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if not _is_readable(connection):
                return connection
            connection.close()
        return None


def _is_readable(connection: Connection) -> bool:
    """Whether an idle connection has something to read: its end, or unexpected data."""
    socket = connection.transport and connection.transport.get_extra_info("socket")
    if not socket:
        return True
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@asynccontextmanager
async def open_client(
    *, ca_bundle: Path | None = None, is_proxied: bool = True, keepalive_s: float = 20.0
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client for many callers; with `is_proxied` it uses HTTPS_PROXY and similar variables.

    aiohttp: with HTTPX, each of 64 parallel streams waited 47 ms for its first byte, not 3.
    """
    async with aiohttp.ClientSession(
        connector=_Connector(limit=0, keepalive_timeout=keepalive_s, ssl=authorities(ca_bundle)),
        trust_env=is_proxied,
        # One caller's cookies must not be sent with another's request.
        cookie_jar=aiohttp.DummyCookieJar(),
        # Bytes are forwarded unchanged.
        auto_decompress=False,
        skip_auto_headers=_OWN_HEADERS,
        max_line_size=LONGEST_HEADER_BYTES,
        max_field_size=LONGEST_HEADER_BYTES,
    ) as client:
        yield client


@dataclass(frozen=True)
class UpstreamAnswer:
    """An answer whose body is still arriving. Its owner closes it in any case."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case."""
    _response: aiohttp.ClientResponse
    _total_timeout_s: float

    @property
    def is_success(self) -> bool:
        return self.status in range(200, 300)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, streamed. Raises StreamBroken if it breaks off or is not there in time.

        If it is late, the cause of the error is a TimeoutError.
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.SocketTimeoutError as error:
            raise StreamBroken("no data has arrived for too long") from error
        except aiohttp.ClientError as error:
            raise StreamBroken("the answer broke off before its end") from error
        except TimeoutError as error:
            seconds = f"{self._total_timeout_s:g} seconds"
            raise StreamBroken(f"the answer has not ended within {seconds}") from error

    async def read(self, max_bytes: int = MAX_WHOLE_BYTES) -> bytes:
        """The whole body. Raises StreamBroken as `chunks` does, and if the body is too long."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > max_bytes:
                raise StreamBroken(f"the answer is longer than {max_bytes} bytes")
        return bytes(body)

    def break_off(self) -> None:
        """Ends the request at once. A reader of the body gets StreamBroken."""
        self._response.close()

    async def close(self) -> None:
        """Ends the request, even if the body is incomplete."""
        self._response.close()


class Forwarder:
    """Forwards requests.

    A stream may take any time as long as data keeps arriving, unless there is a `total_timeout_s`.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        *,
        first_byte_timeout_s: float | None = 60.0,
        idle_timeout_s: float | None = 300.0,
        total_timeout_s: float = math.inf,
    ) -> None:
        self._client = client
        self._first_byte_timeout_s = first_byte_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._total_timeout_s = total_timeout_s
        self._timeout = aiohttp.ClientTimeout(
            total=None if total_timeout_s == math.inf else total_timeout_s,
            sock_connect=CONNECT_TIMEOUT_S,
            sock_read=idle_timeout_s,
        )

    async def open(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        *,
        is_patient: bool = False,
    ) -> UpstreamAnswer:
        """The answer, as soon as its status is there. Raises UpstreamFailed if none comes in time.

        If it is late, the cause of the error is a TimeoutError. With `is_patient` the status may
        take as long as a pause within the body.
        """
        timeout_s = self._idle_timeout_s if is_patient else self._first_byte_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(
                    method,
                    url,
                    headers=list(headers),
                    # aiohttp warns about bytes of more than a megabyte, so it gets a file.
                    data=BytesIO(body) if body else None,
                    timeout=self._timeout,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            is_sent = not isinstance(error, _UNSENT)
            reason = _describe(error, min(timeout_s or math.inf, self._total_timeout_s))
            raise UpstreamFailed(reason, is_sent=is_sent) from error
        pairs = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in response.raw_headers
        ]
        return UpstreamAnswer(response.status, pairs, response, self._total_timeout_s)


@cache
def authorities(ca_bundle: Path | None) -> ssl.SSLContext:
    """A context that trusts the system's authorities (certifi's if it has none) and the bundle's.

    Loading them takes 30 ms.
    """
    tls = ssl.create_default_context()
    if not tls.cert_store_stats()["x509_ca"]:
        tls.load_verify_locations(certifi.where())
    if ca_bundle is not None:
        tls.load_verify_locations(ca_bundle)
    return tls


def _describe(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
        return f"no answer within {timeout_s:g} seconds"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the answer is not HTTP: {error.message.partition(chr(10))[0]}"
    # Some exceptions have no text.
    return str(error) or type(error).__name__
