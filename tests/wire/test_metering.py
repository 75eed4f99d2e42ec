"""What the relay counts of calls that pass it on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import date
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from llmock.chaos import ChaosSettings
from llmock.main import create_app as create_stand_in
from llmock.simulation import MockResponseSettings

from chowder_local.core.domain import InstanceId, ModelProvider, SandboxId
from chowder_local.relay.calls import Credential, RelayRequest
from chowder_local.relay.metering import Metering
from chowder_local.store.usage import Counts, UsageKey
from tests.scripted.serving import eventually, loopback_client
from tests.wire.conftest import RELAY_TOKEN, Noted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.wire.conftest import RelayUnderTest

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]
    OpenRelay = Callable[..., AbstractAsyncContextManager[RelayUnderTest]]

OPENAI = ModelProvider.OPENAI
HEADERS = {
    "x-api-key": RELAY_TOKEN,
    "authorization": f"Bearer {RELAY_TOKEN}",
    "x-goog-api-key": RELAY_TOKEN,
}
SYSTEM = "Runtime: agent=main | session=agent:main:s-1 | sessionId=5 | host=agent"
TURN = {"role": "user", "content": "Hi"}
MESSAGES = {"model": "claude-x", "max_tokens": 9, "messages": [TURN], "system": SYSTEM}
RESPONSES = {"model": "gpt-x", "input": [{"role": "system", "content": SYSTEM}, TURN]}
CONTENTS = {
    "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    "systemInstruction": {"parts": [{"text": SYSTEM}]},
}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("anthropic", "v1/messages", MESSAGES),
    ("anthropic", "v1/messages", MESSAGES | {"stream": True}),
    ("openai", "responses", RESPONSES),
    ("openai", "responses", RESPONSES | {"stream": True}),
    ("openai", "chat/completions", {"model": "gpt-x", "messages": RESPONSES["input"]}),
    ("gemini", "models/gemini-x:generateContent", CONTENTS),
    ("gemini", "models/gemini-x:streamGenerateContent?alt=sse", CONTENTS),
]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with loopback_client(timeout=20, trust_env=False, headers=HEADERS) as client:
        yield client


@pytest.mark.parametrize("is_billed", [True, False])
async def test_an_independent_stand_in_and_the_offline_model_are_metered(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, is_billed: bool
) -> None:
    stand_in = create_stand_in(
        chaos=ChaosSettings(), responses=MockResponseSettings("hello", tool_mode="off")
    )
    async with serve(stand_in) as url:
        base_urls = {
            ModelProvider.ANTHROPIC: f"{url}/anthropic",
            OPENAI: f"{url}/v1",
            ModelProvider.GEMINI: f"{url}/gemini/v1beta",
        }
        async with open_relay("sk" if is_billed else "offline", base_urls) as relay:
            for provider, path, body in CALLS:
                relay.usage.clear()
                answered = await http.post(f"{relay.url}/{provider}/{path}", json=body)
                assert answered.status_code == 200, (path, answered.text)
                ((kind, counts),) = relay.usage
                model = str(body.get("model", "gemini-x"))
                assert kind == UsageKey(
                    InstanceId("i"), date(2026, 5, 4), "agent:main:s-1", ModelProvider(provider),
                    model, is_billed,
                ), path  # fmt: skip
                assert (counts.calls, counts.unmetered_calls) == (1, 0), path
                assert counts.input_tokens > 0, path
                assert counts.output_tokens > 0, path


async def test_an_answer_without_usage_is_a_call_that_could_not_be_metered(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: half\n\n", "more_body": True})

    async with serve(half) as url, open_relay("sk", url) as relay:
        with contextlib.suppress(httpx.RemoteProtocolError):
            await http.post(f"{relay.url}/openai/responses", json=RESPONSES)
        await eventually(lambda: len(relay.usage) == 1, "it is counted")
    assert relay.usage[0][1] == Counts(calls=1, unmetered_calls=1)


async def test_what_a_sandbox_leaves_is_counted_as_far_as_it_came(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    begun = {"type": "message_start", "message": {"usage": {"input_tokens": 7}}}

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = b"data: " + json.dumps(begun).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.Event().wait()

    async with serve(endless) as url, open_relay("sk", url) as relay:
        sent = http.stream("POST", f"{relay.url}/anthropic/v1/messages", json=MESSAGES)
        async with sent as answered:
            await anext(answered.aiter_raw())
        await eventually(lambda: len(relay.usage) == 1, "it is counted")
    assert relay.usage[0][1] == Counts(calls=1, input_tokens=7)


async def test_a_refusal_and_what_is_no_model_call_are_not_counted(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async def provider(scope: Any, receive: Any, send: Any) -> None:
        status = 401 if scope["method"] == "POST" else 200
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async with serve(provider) as url, open_relay("sk", url) as relay:
        await http.post(f"{relay.url}/openai/responses", json=RESPONSES)
        await http.get(f"{relay.url}/openai/models")
    async with open_relay("offline") as offline:
        await http.post(f"{offline.url}/openai/images", json=RESPONSES)
    assert relay.usage == offline.usage == []


def test_a_warm_sandboxes_calls_are_nobodys() -> None:
    ledger = Noted()
    call = RelayRequest(OPENAI, "POST", "responses", "", [], json.dumps(RESPONSES).encode())
    credential = Credential(None, None, SandboxId("s"), "offline")
    metering = Metering(ledger, lambda: pytest.fail("nobody asks for the time"))
    metering.note(call, credential, None, is_billed=False)
    assert ledger.noted == []
