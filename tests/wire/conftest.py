"""Real sockets: a server for any ASGI application, and a relay with a lender of one key."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from chowder_local.app.relay_app import create_relay_app
from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId, SandboxId
from chowder_local.core.errors.upstream import RelayTokenInvalid
from chowder_local.core.events import Events
from chowder_local.core.metrics import Metrics
from chowder_local.relay.call_log import CallJournal, CallLog
from chowder_local.relay.calls import Credential
from chowder_local.relay.compaction import Compactions
from chowder_local.relay.local_model import LocalModel, SessionName
from chowder_local.relay.metering import Metering
from chowder_local.relay.prompt_format import FailureMarkers
from chowder_local.relay.recordings import RecordingRegistry
from chowder_local.relay.scripts.registry import ScriptRegistry
from chowder_local.relay.service import Relay
from chowder_local.relay.session_watch import SessionWatch
from chowder_local.relay.upstreams import Upstreams
from chowder_local.upstream.forward import Forwarder, open_client
from tests.scripted import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from starlette.types import ASGIApp

    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.relay.calls import CredentialResolver
    from chowder_local.relay.prices import Prices
    from chowder_local.store.usage import Counts, UsageKey

RELAY_TOKEN = "sandbox-1.relay-token"


@pytest.fixture
def serve() -> Callable[[ASGIApp], AbstractAsyncContextManager[str]]:
    """Serves an application on a free port of the loopback; gives its URL."""
    return serving.serve


@dataclass
class RelayUnderTest:
    """A relay on a socket, and what it remembers."""

    url: str
    app: ASGIApp
    token: str = RELAY_TOKEN
    failures: FailureMarkers = field(default_factory=FailureMarkers)
    events: Events = field(default_factory=Events)
    metrics: Metrics = field(default_factory=Metrics)
    call_log: CallLog = field(default_factory=CallLog)
    scripts: ScriptRegistry = field(default_factory=ScriptRegistry)
    recordings: RecordingRegistry = field(default_factory=RecordingRegistry)
    usage: list[tuple[UsageKey, Counts]] = field(default_factory=list)
    session_watch: SessionWatch = field(default_factory=SessionWatch)


@dataclass
class Noted:
    """What a relay has counted, call by call."""

    noted: list[tuple[UsageKey, Counts]] = field(default_factory=list)

    def note(self, key: UsageKey, counts: Counts) -> None:
        self.noted.append((key, counts))


@dataclass
class _OneKey:
    key: str | None

    async def resolve(self, relay_token: str, provider: str) -> Credential:
        if relay_token != RELAY_TOKEN:
            raise RelayTokenInvalid
        return Credential(OrganizationId("o"), InstanceId("i"), SandboxId("sandbox-1"), self.key)


def session_name(_: InstanceId, session_key: str) -> SessionName | None:
    """What is behind the last colon, which is nothing for the main session."""
    name = session_key.rpartition(":")[2]
    return SessionName(None if name == "main" else name) if "chat" not in name else None


@asynccontextmanager
async def _open_relay(
    key: str | None,
    base_urls: Mapping[str, str] | str = "http://127.0.0.1:9",
    *,
    endpoints: Mapping[str, Endpoint] | None = None,
    first_byte_timeout_s: float = 30.0,
    record: Path | None = None,
    max_body_bytes: int = 1024 * 1024,
    resolver: CredentialResolver | None = None,
    compaction_timeout_s: float = 60.0,
    more_paths: tuple[str, ...] = (),
    prices: Prices | None = None,
) -> AsyncIterator[RelayUnderTest]:
    if isinstance(base_urls, str):
        base_urls = {provider: f"{base_urls}/{provider}" for provider in ModelProvider}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(is_proxied=False))
        failures, events, metrics = FailureMarkers(), Events(), Metrics()
        forwarder = Forwarder(client, first_byte_timeout_s=first_byte_timeout_s)
        call_log, scripts, usage, watch = (
            CallLog(prices=prices),
            ScriptRegistry(),
            Noted(),
            SessionWatch(),
        )
        recordings = await RecordingRegistry.open(record, None)
        local_model = LocalModel(scripts, recordings, session_name)
        relay = Relay(
            resolver=resolver or _OneKey(key),
            upstreams=Upstreams(base_urls, endpoints or {}, forwarder, more_paths),
            journal=CallJournal(call_log, failures, events, metrics, recordings.recorder),
            metering=Metering(usage, lambda: datetime(2026, 5, 4, tzinfo=UTC)),
            local_model=local_model,
            before_model_call=(),
            reserve=(),
            session_watch=watch,
            compactions=Compactions(compaction_timeout_s, failures),
        )
        app = create_relay_app(relay, max_body_bytes=max_body_bytes)
        url = await stack.enter_async_context(serving.serve(app))
        yield RelayUnderTest(
            url, app, RELAY_TOKEN, failures, events, metrics, call_log, scripts, recordings,
            usage.noted, watch,
        )  # fmt: skip


@pytest.fixture
def open_relay() -> Callable[..., AbstractAsyncContextManager[RelayUnderTest]]:
    """Opens a relay that lends one key (None: none is set) for one token."""
    return _open_relay
