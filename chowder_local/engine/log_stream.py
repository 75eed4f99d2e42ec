"""Follows container logs in the event loop, so that no thread waits for the next line."""

from __future__ import annotations

import asyncio
import json
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from chowder_local.core.errors.sandboxes import EngineSilent, EngineUnavailable, SandboxMissing
from chowder_local.engine.container_exec import Frames

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime
    from pathlib import Path

    from chowder_local.engine.connection import EngineAddress


async def follow(
    address: EngineAddress,
    container_id: str,
    line_count: int,
    since: datetime | None,
    timeout_s: float,
) -> AsyncGenerator[bytes, None]:
    """Yields the last lines of a container's log and then new ones, until the container ends.

    With `since`, older lines do not count. The first chunk is empty, and comes once the log is
    open. `timeout_s` bounds the wait for the engine's answer, not for lines. A broken connection
    ends the log. Before the first chunk, raises SandboxMissing if the container is gone,
    EngineSilent if the engine does not answer, and EngineUnavailable if it refuses.
    """
    base_url, connector = _http_endpoint(address)
    # No total limit: a follower may wait for hours.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        url = f"{base_url}/containers/{container_id}/logs"
        query = {"follow": "1", "stdout": "1", "stderr": "1", "tail": str(line_count)}
        if since is not None:
            query["since"] = str(since_s(since))
        try:
            async with asyncio.timeout(timeout_s):
                response = await session.get(url, params=query)
        except (aiohttp.ClientError, TimeoutError) as failure:
            raise EngineSilent(
                "The container engine does not answer (could not follow a log). Is it running?"
            ) from failure
        try:
            if response.status != HTTPStatus.OK:
                raise _error(response.status, await response.read())
            yield b""
            frames = Frames()
            async for chunk in response.content.iter_any():
                if output := b"".join(content for _, content in frames.feed(chunk)):
                    yield output
        except aiohttp.ClientError:
            return
        finally:
            response.close()


def since_s(since: datetime | None) -> float | None:
    """A time as the engine takes it: in seconds, and not before 1970."""
    return None if since is None else max(since.timestamp(), 1.0)


def _http_endpoint(address: EngineAddress) -> tuple[str, aiohttp.BaseConnector]:
    """The base URL of the engine's API, and the connector for it."""
    scheme, _, rest = address.url.partition("://")
    if scheme in {"unix", "http+unix"}:
        return "http://localhost", aiohttp.UnixConnector(rest)
    host = urlsplit(address.url).netloc
    if address.cert_dir is None:
        return f"{'https' if scheme == 'https' else 'http'}://{host}", aiohttp.TCPConnector()
    return f"https://{host}", aiohttp.TCPConnector(ssl=_tls(address.cert_dir))


def _tls(cert_dir: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cert_dir / "ca.pem")
    context.load_cert_chain(cert_dir / "cert.pem", cert_dir / "key.pem")
    return context


def _error(status: int, body: bytes) -> EngineUnavailable | SandboxMissing:
    try:
        reason = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"HTTP {status}"
    if status == HTTPStatus.NOT_FOUND:
        return SandboxMissing(f"Could not follow a log: {reason}.")
    return EngineUnavailable(f"The engine could not follow a log: {reason}.")
