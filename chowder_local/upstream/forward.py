"""Opens a request to an upstream and streams its answer; owns every timeout there is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx

from chowder_local.errors.upstream import StreamBroken, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


@asynccontextmanager
async def open_client(
    *, ca_bundle: Path | None = None, is_proxied: bool = True, keepalive_s: float = 20.0
) -> AsyncIterator[httpx.AsyncClient]:
    """A client for many callers; `is_proxied` heeds HTTPS_PROXY and its like."""
    tls = httpx.create_ssl_context(trust_env=is_proxied)
    if ca_bundle is not None:
        tls.load_verify_locations(ca_bundle)
    async with httpx.AsyncClient(
        verify=tls,
        trust_env=is_proxied,
        # A cookie that one caller was given must not be sent with another's request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=64, keepalive_expiry=keepalive_s
        ),
    ) as client:
        client.headers.clear()
        yield client


@dataclass(frozen=True)
class Answer:
    """An answer whose body is still coming; whoever gets one closes it, read or not."""

    status: int
    headers: Sequence[tuple[str, str]]
    _response: httpx.Response

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes off the wire; raises StreamBroken if it breaks off or stops."""
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.ReadTimeout as error:
            raise StreamBroken("nothing has come for too long") from error
        except httpx.TransportError as error:
            raise StreamBroken(_words(error)) from error

    async def close(self) -> None:
        """Ends the request, at once if the body is not finished."""
        await self._response.aclose()


class Forwarder:
    """Sends requests on; a stream may take as long as it likes if only something comes."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        connect_timeout_s: float = 10.0,
        first_byte_timeout_s: float = 60.0,
        idle_timeout_s: float = 300.0,
    ) -> None:
        self._client = client
        self._first_byte_timeout_s = first_byte_timeout_s
        self._timeout = httpx.Timeout(None, connect=connect_timeout_s, read=idle_timeout_s)

    async def open(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Answer:
        """The answer once its status is there; raises UpstreamFailed if none comes."""
        try:
            request = self._client.build_request(
                method, url, headers=list(headers), content=body, timeout=self._timeout
            )
            async with asyncio.timeout(self._first_byte_timeout_s):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            words = f"no answer within {self._first_byte_timeout_s:g} seconds"
            raise UpstreamFailed(words, is_sent=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL) as error:
            raise UpstreamFailed(_words(error), is_sent=False) from error
        except httpx.TransportError as error:
            raise UpstreamFailed(_words(error), is_sent=True) from error
        return Answer(response.status_code, response.headers.multi_items(), response)


def _words(error: Exception) -> str:
    # Some of httpx's errors have a name and no text.
    return str(error) or type(error).__name__
