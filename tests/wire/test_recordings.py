"""Recording a provider behind the relay, and answering from that without it."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from llmock.main import create_app as create_stand_in
from llmock.simulation import MockResponseSettings

from chowder_local.core.domain import InstanceId, ModelProvider
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.relay.recordings import RecordedAnswer, RecordedCall, RecordedRequest, read
from tests.scripted.serving import eventually, loopback_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import httpx

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]
    OpenRelay = Callable[..., AbstractAsyncContextManager[Any]]

ANTHROPIC, OPENAI, GEMINI = ModelProvider
KEY = "sk-planted-organization-key"
INSTANCE = InstanceId("i")
HEADERS = {"x-api-key": "sandbox-1.relay-token", "x-goog-api-key": "sandbox-1.relay-token",
           "authorization": "Bearer sandbox-1.relay-token"}  # fmt: skip


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with loopback_client(timeout=20, trust_env=False) as client:
        yield client


@asynccontextmanager
async def recording(serve: Serve, open_relay: OpenRelay, folder: Path) -> AsyncIterator[Any]:
    """A relay that records a provider which answers."""
    stand_in = create_stand_in(responses=MockResponseSettings("hello", tool_mode="off"))
    async with serve(stand_in) as url:
        base_urls = {OPENAI: f"{url}/v1", ANTHROPIC: url, GEMINI: url}
        async with open_relay(KEY, base_urls, record=folder) as relay:
            yield relay


async def ask(
    http: httpx.AsyncClient, url: str, text: str, *, is_streamed: bool = True
) -> httpx.Response:
    body = {"model": "gpt-x", "input": text, "stream": is_streamed}
    return await http.post(f"{url}/openai/responses", json=body, headers=HEADERS)


async def test_what_a_provider_answers_is_answered_again_without_it(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with recording(serve, open_relay, tmp_path) as relay:
        streamed = await ask(http, relay.url, f"Hello, {KEY}")
        whole = await ask(http, relay.url, "Hello", is_streamed=False)
        # A whole answer has a length, and its client knows it to be there before it is kept.
        await eventually(lambda: len(read(tmp_path)) == 2, "both calls are kept")
    assert streamed.status_code == whole.status_code == 200
    entries = read(tmp_path)
    assert len(entries) == 2
    # The key that the person gave away himself is in no file either.
    assert not [path for path in tmp_path.iterdir() if KEY in path.read_text()]

    # Nobody listens there any more.
    async with open_relay(KEY, "http://127.0.0.1:9") as relay:
        await relay.recordings.put(INSTANCE, entries)
        again = await ask(http, relay.url, "Hello, …")
        whole_again = await ask(http, relay.url, "Hello", is_streamed=False)
        call, *_ = relay.call_log.of_instance(INSTANCE)
    assert again.text == streamed.text.replace(KEY, "…")
    assert again.headers["content-type"] == streamed.headers["content-type"]
    assert whole_again.json() == whole.json()
    assert call.source == "recording"


async def test_a_refusal_is_recorded_and_is_one_again(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"retry-after", b"60")]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        body = json.dumps({"error": {"message": "Slow down."}}).encode()
        await send({"type": "http.response.body", "body": body})

    async with serve(refusing) as url, open_relay(KEY, url, record=tmp_path) as relay:
        await ask(http, relay.url, "Hello")
    async with open_relay("offline") as relay:
        await relay.recordings.put(INSTANCE, read(tmp_path))
        answer = await ask(http, relay.url, "Hello")
        failure = relay.failures.find(answer.text)
    assert isinstance(failure, ProviderFailed)
    assert (failure.status, failure.reason, failure.retry_after) == (429, "Slow down.", "60")


async def test_a_call_that_was_not_recorded_fails_and_says_what_differs(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with recording(serve, open_relay, tmp_path) as relay:
        await ask(http, relay.url, "Good morning")
    async with open_relay("offline") as relay:
        await relay.recordings.put(INSTANCE, read(tmp_path))
        answer = await ask(http, relay.url, "Good night")
        failure = relay.failures.find(answer.text)
        relay.recordings.remove(INSTANCE)
        offline = await ask(http, relay.url, "Good night")
    assert isinstance(failure, ProviderFailed)
    assert failure.status == 400
    assert "0001-openai-gpt-x.json: recorded [said: Good morning]" in failure.reason
    assert "[offline]" in offline.text


async def test_what_cannot_be_written_keeps_nobody_from_an_answer(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = tmp_path / "recording"
    async with recording(serve, open_relay, folder) as relay:
        # In the folder's place there is something else by now.
        folder.write_text("")
        with caplog.at_level(logging.ERROR):
            answer = await ask(http, relay.url, "Hello")
    assert answer.status_code == 200
    assert "could not be recorded" in caplog.text


async def test_embeddings_are_no_question_and_are_not_recorded(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with recording(serve, open_relay, tmp_path) as relay:
        body = {"model": "text-embedding-3-small", "input": "Hi"}
        url = f"{relay.url}/openai/embeddings"
        answer = await http.post(url, json=body, headers=HEADERS)
    assert answer.status_code == 200
    assert read(tmp_path) == {}


async def test_a_recording_is_gone_on_with(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    for text in ("one", "two"):
        async with recording(serve, open_relay, tmp_path) as relay:
            await ask(http, relay.url, text)
    assert list(read(tmp_path)) == ["0001-openai-gpt-x.json", "0002-openai-gpt-x.json"]


RUNTIME = "Runtime: agent=main | session=agent:main:main | sessionId=1 | host=agent"


def recorded(provider: str, status: int, body: dict[str, Any]) -> RecordedCall:
    asked = RecordedRequest(provider=provider, model="m", is_streamed=False, turns=[])
    text = json.dumps(body)
    answered = RecordedAnswer(status=status, content_type="application/json", text=text)
    return RecordedCall(asked=asked, answered=answered)


IN_ORDER = {
    "1": recorded("openai", 200, {"object": "response", "output": [], "id": "resp_first"}),
    "2": recorded("anthropic", 200, {"type": "message", "content": [
        {"type": "text", "text": "A second answer."},
        {"type": "tool_use", "id": "t1", "name": "exec", "input": {"command": "date"}},
    ]}),
    "3": recorded("anthropic", 529, {"error": {"message": "Overloaded."}}),
}  # fmt: skip
"""A run whose model has changed in the middle of it."""


async def ask_in_session(http: httpx.AsyncClient, url: str, text: str) -> httpx.Response:
    said = [{"role": "developer", "content": RUNTIME}, {"role": "user", "content": text}]
    body = {"model": "gpt-x", "input": said}
    return await http.post(f"{url}/openai/responses", json=body, headers=HEADERS)


@pytest.mark.parametrize("then_live", [True, False])
async def test_a_run_is_answered_in_its_order_whatever_is_asked(
    open_relay: OpenRelay, http: httpx.AsyncClient, *, then_live: bool
) -> None:
    async with open_relay("offline") as relay:
        await relay.recordings.put(INSTANCE, IN_ORDER, in_order=True, then_live=then_live)
        first = await ask_in_session(http, relay.url, "Something")
        # OpenClaw's own calls, such as for a summary, are not part of a run.
        aside = await ask(http, relay.url, "Summarize", is_streamed=False)
        second, third, fourth = [
            await ask_in_session(http, relay.url, text) for text in ("else", "and", "more")
        ]
        refusals = [relay.failures.find(each.text) for each in (third, aside, fourth)]
    assert first.json()["id"] == "resp_first"
    texts = json.dumps(second.json()["output"])
    assert "A second answer." in texts
    assert "exec" in texts
    overloaded, of_aside, of_fourth = refusals
    assert isinstance(overloaded, ProviderFailed)
    assert (overloaded.status, overloaded.reason) == (529, "Overloaded.")
    if then_live:
        assert "[offline]" in aside.text
        assert "[offline]" in fourth.text
    else:
        for each in (of_aside, of_fourth):
            assert isinstance(each, ProviderFailed)
            assert "no more model calls" in each.reason


async def test_after_a_run_the_provider_is_called(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    stand_in = create_stand_in(responses=MockResponseSettings("hello", tool_mode="off"))
    async with serve(stand_in) as url, open_relay(KEY, {OPENAI: f"{url}/v1"}) as relay:
        first_only = {"1": IN_ORDER["1"]}
        await relay.recordings.put(INSTANCE, first_only, in_order=True, then_live=True)
        sources = []
        for _ in range(2):
            assert (await ask_in_session(http, relay.url, "Go")).status_code == 200
            call, *_ = relay.call_log.of_instance(INSTANCE)
            sources.append(call.source)
    assert sources == ["recording", "provider"]
