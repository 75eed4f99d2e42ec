"""Real sockets: a server for any ASGI application, and a relay with a lender of one key."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import uvicorn

from chowder_local.domain import InstanceId, ModelProvider, OrganizationId, SandboxId
from chowder_local.errors import RelayTokenInvalid
from chowder_local.relay.failures import FailureLog
from chowder_local.relay.service import Loan, Relay
from chowder_local.upstream.forward import Forwarder, open_client
from chowder_local.web.relay import create_relay_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from uvicorn._types import ASGIApplication

RELAY_TOKEN = "sandbox-1.relay-token"
START_TIMEOUT_S = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def _serve(app: ASGIApplication) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            async with asyncio.timeout(START_TIMEOUT_S):
                while not server.started:
                    await asyncio.sleep(0.001)
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True


@pytest.fixture
def serve() -> Callable[[ASGIApplication], AbstractAsyncContextManager[str]]:
    """Serves an application on a free port of the loopback; gives its URL."""
    return _serve


@dataclass
class RelayUnderTest:
    """A relay on a socket, and what it remembers."""

    url: str
    token: str = RELAY_TOKEN
    failures: FailureLog = field(default_factory=FailureLog)


@dataclass
class _OneKey:
    key: str | None

    async def lend(self, relay_token: str, provider: ModelProvider) -> Loan:
        if relay_token != RELAY_TOKEN:
            raise RelayTokenInvalid
        return Loan(OrganizationId("o"), InstanceId("i"), SandboxId("sandbox-1"), self.key)


@asynccontextmanager
async def _open_relay(
    key: str | None,
    base_urls: Mapping[ModelProvider, str] | str = "http://127.0.0.1:9",
    *,
    first_byte_timeout_s: float = 30.0,
    max_body_bytes: int = 1024 * 1024,
) -> AsyncIterator[RelayUnderTest]:
    if isinstance(base_urls, str):
        base_urls = {provider: f"{base_urls}/{provider}" for provider in ModelProvider}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(is_proxied=False))
        failures = FailureLog()
        forwarder = Forwarder(client, first_byte_timeout_s=first_byte_timeout_s)
        relay = Relay(_OneKey(key), base_urls, forwarder, failures)
        app = create_relay_app(relay, max_body_bytes=max_body_bytes)
        url = await stack.enter_async_context(_serve(app))
        yield RelayUnderTest(url, failures=failures)


@pytest.fixture
def open_relay() -> Callable[..., AbstractAsyncContextManager[RelayUnderTest]]:
    """Opens a relay that lends one key (None: none is set) for one token."""
    return _open_relay
