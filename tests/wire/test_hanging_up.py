"""A sandbox that disconnects during a model's answer: was the answer complete?"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from chowder_local.core.domain import ModelProvider
from chowder_local.store.usage import Counts
from tests.scripted.serving import eventually
from tests.unit.core.test_metrics import FIGURES
from tests.wire.test_other_providers import lab
from tests.wire.test_relay import REQUESTS, TOKEN_HEADERS, Upstream, hang

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from chowder_local.relay.call_log import ModelCall

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]
    OpenRelay = Callable[..., AbstractAsyncContextManager[Any]]

OF_ANTHROPIC = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "message_"}}
OF_OPENAI = {"type": "response.output_text.delta", "delta": "response.completed"}
OF_CHAT = {"choices": [{"delta": {"content": "finish_reason"}, "finish_reason": None}]}
OF_GEMINI = {"candidates": [{"content": {"parts": [{"text": "finishReason"}]}}]}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a reason of Anthropic's": (
        "anthropic",
        OF_ANTHROPIC,
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ),
    "Anthropic's last event": ("anthropic", OF_ANTHROPIC, {"type": "message_stop"}),
    "a response": ("openai", OF_OPENAI, {"type": "response.completed", "response": {}}),
    "a cut response": ("openai", OF_OPENAI, {"type": "response.incomplete", "response": {}}),
    "a reason of a named provider's": (
        "other",
        OF_CHAT,
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ),
    "a reason of Gemini's": ("gemini", OF_GEMINI, {"candidates": [{"finishReason": "STOP"}]}),
}
"""Provider, text of an answer, and the event with its finish reason."""
CHAT = {"model": "lab/any", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
ASKED = {
    **{str(provider): (path, body) for provider, (path, body) in REQUESTS.items()},
    "other": ("chat/completions", CHAT),
}
HEADERS = {str(provider): headers for provider, headers in TOKEN_HEADERS.items()}


def has_ended(call: ModelCall) -> bool:
    return call.outcome is not None


async def outcomes(serve: Serve, open_relay: OpenRelay, *, is_whole: bool) -> dict[str, str]:
    """By case: the outcome of a call whose sandbox leaves at the last event."""
    events: list[dict[str, Any]] = []

    async def linger(_: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    result: dict[str, str] = {}
    async with (
        serve(linger) as url,
        open_relay("sk-key", url, endpoints=lab(url)) as relay,
        httpx.AsyncClient(timeout=20, trust_env=False) as http,
    ):
        for case, (provider, words, end) in CASES.items():
            events[:] = [words, end] if is_whole else [words]
            path, body = ASKED[provider]
            headers = HEADERS.get(provider, HEADERS["openai"])
            url = f"{relay.url}/{provider}/{path}"
            async with http.stream("POST", url, json=body, headers=headers) as answer:
                last = json.dumps(events[-1])
                await anext(line async for line in answer.aiter_lines() if last in line)
            (call,) = relay.call_log.latest().values()
            await eventually(partial(has_ended, call), f"{case}: the call has ended")
            result[case] = call.outcome
    return result


async def test_a_sandbox_that_disconnects_after_the_finish_reason_was_answered(
    serve: Serve, open_relay: OpenRelay
) -> None:
    result = await outcomes(serve, open_relay, is_whole=True)
    assert result == dict.fromkeys(CASES, "answered")


async def test_a_sandbox_that_disconnects_earlier_counts_as_disconnected(
    serve: Serve, open_relay: OpenRelay
) -> None:
    result = await outcomes(serve, open_relay, is_whole=False)
    assert result == dict.fromkeys(CASES, "client_disconnected")


async def test_a_call_that_a_sandbox_leaves_before_the_first_byte_has_ended(
    serve: Serve, open_relay: OpenRelay
) -> None:
    upstream = Upstream(hang)
    path, body = REQUESTS[ModelProvider.OPENAI]
    async with serve(upstream) as url, open_relay("sk-key", url) as relay:
        host, port = relay.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        content = json.dumps(body).encode()
        head = (
            f"POST /openai/{path} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {relay.token}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await eventually(lambda: upstream.requests, "the provider has the call")
        writer.close()
        await eventually(upstream.has_left.is_set, "the provider's connection is closed")
        (call,) = relay.call_log.latest().values()
        await eventually(lambda: has_ended(call), "the call has ended")
    assert call.outcome == "client_disconnected"
    assert call.took_s is not None
    counted = 'model_calls_total{outcome="client_disconnected",provider="openai"} 1.0'
    assert counted in relay.metrics.render(FIGURES).decode()
    assert [counts for _, counts in relay.usage] == [Counts(calls=1, unmetered_calls=1)]
