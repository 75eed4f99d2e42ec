"""What the relay does when something fails that is not the provider."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.core.domain import ModelProvider, SandboxId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.errors.upstream import RelayFailed
from chowder_local.relay.wire.errors import error_message
from tests.scripted.serving import loopback_client

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Message

    from chowder_local.relay.calls import Credential

    OpenRelay = Callable[..., AbstractAsyncContextManager[Any]]

ASK = {"model": "gpt-x", "input": "Hi"}
HEADERS = {"authorization": "Bearer sandbox-1.relay-token"}


class Failing:
    """A lender whose store fails."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    async def resolve(self, relay_token: str, provider: str) -> Credential:
        raise self._failure


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.exc_info]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (DataDirUnusable("The disk is full."), "The disk is full."),
        (RuntimeError("SELECT secret"), "its log has the cause"),
    ],
)
@pytest.mark.parametrize("provider", ModelProvider)
async def test_a_failure_of_ours_crosses_openclaw_as_a_providers_would(
    open_relay: OpenRelay,
    caplog: pytest.LogCaptureFixture,
    provider: ModelProvider,
    failure: Exception,
    words: str,
) -> None:
    async with (
        open_relay(None, resolver=Failing(failure)) as relay,
        loopback_client() as http,
    ):
        answer = await http.post(f"{relay.url}/{provider}/x", json=ASK, headers=HEADERS)
    # The one status after which OpenClaw neither tries again nor blocks the provider.
    assert answer.status_code == 400
    told = relay.failures.find(error_message(answer.content))
    assert isinstance(told, RelayFailed)
    assert words in str(told)
    assert "secret" not in answer.text + str(told)
    assert [each.exc_info[1] for each in logged(caplog) if each.exc_info] == [failure]


async def test_a_failure_of_ours_within_an_answer_breaks_it_off_and_is_told(
    open_relay: OpenRelay, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unexpected")

    async with open_relay("offline") as relay, loopback_client() as http:
        monkeypatch.setattr(relay.call_log, "append", fail)
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(f"{relay.url}/openai/responses", json=ASK, headers=HEADERS)
    assert isinstance(relay.failures.latest(SandboxId("sandbox-1"), 0.0), RelayFailed)
    (call,) = relay.call_log.latest().values()
    assert call.outcome == "failed"
    assert len(logged(caplog)) == 1


@pytest.mark.parametrize("sent", ["http.response.start", "http.response.body"])
async def test_an_answer_is_closed_at_once_when_the_sandbox_leaves_while_it_is_sent(
    open_relay: OpenRelay, sent: str
) -> None:
    asked: list[Message] = [
        {"type": "http.request", "body": json.dumps(ASK).encode(), "more_body": False}
    ]
    is_sending = asyncio.Event()

    async def receive() -> Message:
        if asked:
            return asked.pop()
        await is_sending.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == sent:
            is_sending.set()
            # As a socket whose other side reads nothing.
            await asyncio.Event().wait()

    scope = {
        "type": "http", "method": "POST", "path": "/openai/responses", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"authorization", HEADERS["authorization"].encode())],
    }  # fmt: skip
    async with open_relay("offline") as relay:
        await relay.app(scope, receive, send)
        (call,) = relay.call_log.latest().values()
        assert call.outcome == "client_disconnected"
