"""An agent that shortens a conversation, between a relay and named providers on real sockets."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.upstream import ContextLengthExceeded, ProviderFailed
from chowder_local.relay.compaction import MAX_CALLS
from chowder_local.relay.wire.errors import error_message
from tests.scripted.serving import loopback_client
from tests.wire.test_other_providers import ANSWER, NOWHERE, TOKEN, lab
from tests.wire.test_relay import Upstream, answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]
    OpenRelay = Callable[..., AbstractAsyncContextManager[Any]]

SANDBOX = SandboxId("sandbox-1")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    headers = {**TOKEN, "traceparent": f"00-{'5' * 32}-{'6' * 16}-01"}
    async with loopback_client(timeout=20, trust_env=False, headers=headers) as client:
        yield client


async def ask(
    http: httpx.AsyncClient, relay: Any, system: str, history: str = ""
) -> httpx.Response:
    messages = [
        {"role": "system", "content": system},
        {"role": "assistant", "content": history},
        {"role": "user", "content": "Hi"},
    ]
    body = {"model": "lab/small", "messages": messages, "stream": True}
    return await http.post(f"{relay.url}/other/chat/completions", json=body)


SUMMARY = "You are a context summarization assistant. Your task is to read a conversation."
AGENT = "You are a personal assistant."
KEY = "agent:main:internal-session-effects:1"
SAVING = f"{AGENT}\nRuntime: agent=main | session={KEY} | sessionId=1"


async def test_a_turn_has_so_many_calls_to_shorten_its_conversation(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(ANSWER)
    async with serve(upstream) as url, open_relay("", NOWHERE, endpoints=lab(url)) as relay:
        for _ in range(MAX_CALLS):
            assert (await ask(http, relay, SUMMARY)).status_code == 200
        refused = await ask(http, relay, SUMMARY)
        # Only these count.
        assert (await ask(http, relay, AGENT)).status_code == 200
    assert len(upstream.requests) == MAX_CALLS + 1
    failure = relay.failures.find(error_message(refused.content))
    assert isinstance(failure, ContextLengthExceeded)
    assert f"lab/small takes, and the agent could not shorten it within {MAX_CALLS}" in str(failure)


async def rambling(send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "la"}}]}\n\n'
    with suppress(OSError):
        while True:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0.01)


async def test_a_summary_without_end_is_cut_off_and_no_further_one_begun(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(rambling)
    async with (
        serve(upstream) as url,
        open_relay("", NOWHERE, endpoints=lab(url), compaction_timeout_s=0.2) as relay,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(http, relay, SUMMARY)
        assert (await ask(http, relay, SUMMARY)).status_code == 400
    assert len(upstream.requests) == 1
    assert "could not shorten it within 0.2 s" in str(relay.failures.latest(SANDBOX, 0.0))


async def test_a_conversation_that_no_summary_makes_short_enough_is_not_shortened(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    words = "request (9000 tokens) exceeds the available context size (4096 tokens)"
    upstream = Upstream(answer(400, {"error": {"message": words}}))
    async with serve(upstream) as url, open_relay("", NOWHERE, endpoints=lab(url)) as relay:
        told = error_message((await ask(http, relay, AGENT * 100, "Once.")).content)
        unmade = error_message((await ask(http, relay, SUMMARY)).content)
    # Nothing in it makes OpenClaw think of the context.
    assert words not in told
    failure = relay.failures.find(told)
    assert isinstance(failure, ProviderFailed)
    assert failure.reason == words
    assert relay.failures.find(unmade) is failure
    assert len(upstream.requests) == 1


async def test_the_numbers_of_a_refusal_are_told_in_words_that_openclaw_knows(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    words = (
        "Trying to keep the first 9000 tokens when context the overflows. However, the model is "
        "loaded with context length of only 4096 tokens, which is not enough."
    )
    refusing = Upstream(answer(400, {"error": words}))
    async with serve(refusing) as url, open_relay("", NOWHERE, endpoints=lab(url)) as relay:
        told = error_message((await ask(http, relay, AGENT, "Once upon a time. " * 99)).content)
        unhelped = error_message(
            (await ask(http, relay, SAVING, "Once upon a time. " * 99)).content
        )
    assert "prompt is too long: 9000 tokens > 4096 maximum" in told
    # What OpenClaw does without is not worth a compaction of its own.
    assert "4096" not in unhelped


async def test_a_turn_that_ends_after_its_summaries_says_that_they_were_of_no_use(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with serve(Upstream(ANSWER)) as url, open_relay("", NOWHERE, endpoints=lab(url)) as relay:
        await ask(http, relay, SUMMARY)
        failure = relay.failures.latest(SANDBOX, 0.0)
        assert "could not shorten it with that model's summaries" in str(failure)
        # The turn goes on, so they were.
        await ask(http, relay, AGENT)
        assert relay.failures.latest(SANDBOX, 0.0) is None
