"""The relay on a real socket, in front of an independent stand-in and of upstreams that fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import pytest
from llmock.chaos import ChaosSettings
from llmock.main import create_app as create_stand_in
from llmock.simulation import MockResponseSettings

from chowder_local.app import relay_app
from chowder_local.core import untrusted_json
from chowder_local.core.domain import OFFLINE_KEY, InstanceId, ModelProvider, SandboxId
from chowder_local.core.errors.requests import ModelKeyMissing
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.core.logs import JsonLine
from chowder_local.core.long_values import LONG_CHARS
from chowder_local.http.bodies import UNCOUNTED_BYTES
from chowder_local.relay.call_log import FailedAttempt
from chowder_local.relay.prompt_format import ANY_TOOL
from chowder_local.relay.wire.errors import error_message
from tests.scripted.serving import eventually, loopback_client
from tests.scripted.threads import LONG_VALUES, note_threads
from tests.unit.core.test_metrics import FIGURES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]
    OpenRelay = Callable[..., AbstractAsyncContextManager[Any]]

ANTHROPIC, OPENAI, GEMINI = ModelProvider
KEY = "sk-organization-key"
TOKEN_HEADERS = {
    ANTHROPIC: {"x-api-key": "sandbox-1.relay-token"},
    OPENAI: {"authorization": "Bearer sandbox-1.relay-token"},
    GEMINI: {"x-goog-api-key": "sandbox-1.relay-token"},
}
KEY_HEADERS = {
    ANTHROPIC: ("x-api-key", KEY),
    OPENAI: ("authorization", f"Bearer {KEY}"),
    GEMINI: ("x-goog-api-key", KEY),
}
TURN = [{"role": "user", "content": "Hi"}]
REQUESTS: dict[ModelProvider, tuple[str, dict[str, Any]]] = {
    ANTHROPIC: ("v1/messages", {"model": "claude-x", "max_tokens": 9, "messages": TURN}),
    OPENAI: ("responses", {"model": "gpt-x", "input": "Hi"}),
    GEMINI: ("models/gemini-x:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
}


class Upstream:
    """A provider that does what a test says, and keeps what it got."""

    def __init__(self, *answers: Callable[[Any], Awaitable[None]]) -> None:
        self._answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.has_left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["raw_path"].decode()
        query = scope["query_string"].decode()
        self.requests.append({"headers": headers, "path": path, "query": query, "body": body})
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is hang:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.has_left.set()
            return
        await answer(send)


async def hang(send: Any) -> None:
    """Stands for never answering."""


def answer(status: int, body: Any, **headers: str) -> Callable[[Any], Awaitable[None]]:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]

    async def send_it(send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await send({"type": "http.response.body", "body": content})

    return send_it


async def half_an_answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"data: half\n\n", "more_body": True})
    # uvicorn closes the connection of an application that returns without finishing.


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with loopback_client(timeout=20, trust_env=False) as client:
        yield client


async def post(
    http: httpx.AsyncClient, url: str, provider: ModelProvider, **more: Any
) -> httpx.Response:
    path, body = REQUESTS[provider]
    headers = TOKEN_HEADERS[provider]
    return await http.post(f"{url}/{provider}/{path}", json=body, headers=headers, **more)


@pytest.mark.parametrize(
    ("provider", "is_streamed"),
    [(ANTHROPIC, True), (OPENAI, False), (OPENAI, True), (GEMINI, True)],
)
async def test_a_stand_in_answers_through_the_relay_and_gets_the_organizations_key(
    serve: Serve,
    open_relay: OpenRelay,
    http: httpx.AsyncClient,
    provider: ModelProvider,
    is_streamed: bool,
) -> None:
    seen: list[dict[str, str]] = []
    stand_in = create_stand_in(
        chaos=ChaosSettings(), responses=MockResponseSettings("hello", tool_mode="off")
    )

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await stand_in(scope, receive, send)

    path, body = REQUESTS[provider]
    query = ""
    if is_streamed and provider is GEMINI:
        path, query = path.replace("generate", "streamGenerate"), "?alt=sse"
    elif is_streamed:
        body = body | {"stream": True}
    async with serve(watched) as url:
        base_urls = {
            ANTHROPIC: f"{url}/anthropic",
            OPENAI: f"{url}/v1",
            GEMINI: f"{url}/gemini/v1beta",
        }
        async with open_relay(KEY, base_urls) as relay:
            answered = await http.post(
                f"{relay.url}/{provider}/{path}{query}", json=body, headers=TOKEN_HEADERS[provider]
            )

    assert answered.status_code == 200, answered.text
    is_events = answered.headers["content-type"].startswith("text/event-stream")
    assert is_events == is_streamed
    assert "mock" in answered.text
    (headers,) = seen
    name, value = KEY_HEADERS[provider]
    assert headers[name] == value
    assert relay.token not in str(headers)


async def test_a_request_and_its_answer_cross_byte_for_byte(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    body = bytes(range(256)) * 40
    upstream = Upstream(answer(200, body, content_type="text/plain", request_id="req_1"))
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        answered = await http.post(
            f"{relay.url}/gemini/models/a-b:countTokens?alt=sse&key={relay.token}",
            content=body,
            headers={"anthropic-beta": "b"},
        )

    assert answered.content == body
    assert answered.headers["request-id"] == "req_1"
    (got,) = upstream.requests
    assert got["body"] == body
    assert (got["path"], got["query"]) == ("/gemini/models/a-b:countTokens", "alt=sse")
    assert got["headers"]["anthropic-beta"] == "b"
    assert got["headers"]["host"] == url.removeprefix("http://")


@pytest.mark.parametrize("provider", list(ModelProvider))
async def test_a_providers_failure_crosses_as_a_marked_400(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, provider: ModelProvider
) -> None:
    statuses = [302, 400, 401, 403, 404, 429, 500, 529]
    body = {"error": {"message": f"No, {KEY}."}}
    upstream = Upstream(*(answer(status, body, retry_after="60") for status in statuses))
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        answers = [await post(http, relay.url, provider) for _ in statuses]

    assert {each.status_code for each in answers} == {400}
    failures = [relay.failures.find(each.text) for each in answers]
    assert [failure.status for failure in failures] == statuses
    assert isinstance(failures[0], ProviderFailed)
    assert (failures[0].provider, failures[0].reason) == (provider, "No, ….")
    assert failures[0].retry_after == "60"
    # Nothing but the marker: OpenClaw draws conclusions from words.
    assert error_message(answers[0].content).startswith("relay-failure-")
    assert "No" not in answers[0].text
    assert len(upstream.requests) == len(statuses)


async def test_a_page_for_people_is_a_failure(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    page = answer(200, b"<html>Log in first.</html>", content_type="text/html; charset=utf-8")
    async with serve(Upstream(page)) as url, open_relay(KEY, url) as relay:
        answered = await post(http, relay.url, ANTHROPIC)

    failure = relay.failures.find(answered.text)
    assert isinstance(failure, ProviderFailed)
    assert "Log in first" in failure.reason


async def test_a_demand_of_the_system_prompt_becomes_the_providers_own(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    call = {"system": ANY_TOOL, "messages": [], "tools": [{"name": "f"}]}
    upstream = Upstream(answer(200, {}))
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        url = f"{relay.url}/anthropic/v1/messages"
        await http.post(url, json=call, headers=TOKEN_HEADERS[ANTHROPIC])

    (got,) = upstream.requests
    assert json.loads(got["body"]) == call | {"tool_choice": {"type": "any"}}


async def test_a_prompt_that_is_too_long_is_told_to_openclaw(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(answer(400, {"error": {"message": "prompt is too long: 9 > 8"}}))
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        answered = await post(http, relay.url, ANTHROPIC)

    assert error_message(answered.content).endswith(" prompt is too long: 9 > 8")
    assert relay.failures.find(answered.text) is not None


async def test_a_limited_call_is_tried_again_once_after_the_wait(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(answer(429, {}, retry_after="0"), answer(200, b"ok"))
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        answered = await post(http, relay.url, OPENAI)

    assert (answered.status_code, answered.content) == (200, b"ok")
    first, second = upstream.requests
    assert first == second
    # Whoever looks at the call sees that it was the second one.
    (call,) = relay.call_log.of_instance(InstanceId("i"))
    assert call.tries == [FailedAttempt("provider", 429, 0.0)]


@pytest.mark.parametrize("headers", [{"retry_after": "0"}, {"retry_after": "11"}, {}])
async def test_a_call_that_stays_limited_fails(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    upstream = Upstream(answer(429, {"error": {"message": "slow down"}}, **headers))
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        answered = await post(http, relay.url, OPENAI)

    assert answered.status_code == 400
    assert len(upstream.requests) == (2 if headers == {"retry_after": "0"} else 1)


async def test_a_refused_connection_is_a_failure_without_status(
    open_relay: OpenRelay, http: httpx.AsyncClient, unused_url: str
) -> None:
    async with open_relay(KEY, unused_url) as relay:
        answered = await post(http, relay.url, ANTHROPIC)

    failure = relay.failures.find(answered.text)
    assert answered.status_code == 400
    (call,) = relay.call_log.of_instance(InstanceId("i"))
    assert call.tries == [FailedAttempt("provider", None, 0.0)]
    assert isinstance(failure, ProviderFailed)
    assert failure.status is None
    assert "did not answer" in str(failure)


async def test_a_provider_that_never_answers_is_given_up(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(hang)
    async with (
        serve(upstream) as url,
        open_relay(KEY, url, first_byte_timeout_s=0.5) as relay,
    ):
        answered = await post(http, relay.url, ANTHROPIC)
        await asyncio.wait_for(upstream.has_left.wait(), 5)

    failure = relay.failures.find(answered.text)
    assert "no answer within 0.5 seconds" in str(failure)
    assert len(upstream.requests) == 1


async def test_a_stream_that_breaks_off_breaks_off_here_too(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with serve(Upstream(half_an_answer)) as url, open_relay(KEY, url) as relay:
        request = http.build_request(
            "POST", f"{relay.url}/openai/responses", json={}, headers=TOKEN_HEADERS[OPENAI]
        )
        answered = await http.send(request, stream=True)
        chunks = answered.aiter_raw()
        assert await anext(chunks) == b"data: half\n\n"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(chunks)
        await answered.aclose()

    failure = relay.failures.latest(SandboxId("sandbox-1"), 0.0)
    assert isinstance(failure, ProviderFailed)
    assert "broke off" in failure.reason


async def test_an_error_that_breaks_off_keeps_its_status(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async def half_an_error(send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"Oh", "more_body": True})

    async with serve(Upstream(half_an_error)) as url, open_relay(KEY, url) as relay:
        answered = await post(http, relay.url, ANTHROPIC)

    failure = relay.failures.find(answered.text)
    assert isinstance(failure, ProviderFailed)
    assert (failure.status, failure.reason) == (500, "Oh")


async def test_an_errors_endless_body_is_cut(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with (
        serve(Upstream(answer(500, b"x" * 300_000))) as url,
        open_relay(KEY, url) as relay,
    ):
        answered = await post(http, relay.url, ANTHROPIC)

    failure = relay.failures.find(answered.text)
    assert isinstance(failure, ProviderFailed)
    assert failure.reason == "x" * 300


async def test_a_sandbox_that_leaves_before_the_answer_ends_the_providers_work(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(hang)
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        with pytest.raises(httpx.ReadTimeout):
            await post(http, relay.url, ANTHROPIC, timeout=0.2)
        await asyncio.wait_for(upstream.has_left.wait(), 5)


async def test_a_call_holds_its_body_until_it_is_over(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream, text = Upstream(hang), "x" * 100_000
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        memory = relay.app.routes[-1].endpoint._body_memory
        headers = TOKEN_HEADERS[OPENAI]
        call = http.post(f"{relay.url}/openai/responses", json={"input": text}, headers=headers)
        calling = asyncio.ensure_future(call)
        await eventually(lambda: upstream.requests, "the provider is asked")
        assert memory.held_bytes > len(text)
        calling.cancel()
        await eventually(lambda: memory.held_bytes == 0, "all is given back")


async def test_a_sandbox_that_leaves_a_silent_stream_ends_the_providers_work(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    has_left = asyncio.Event()

    async def silent_after_the_first_event(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left.set()

    async with serve(silent_after_the_first_event) as url, open_relay(KEY, url) as relay:
        headers = TOKEN_HEADERS[OPENAI]
        async with http.stream(
            "POST", f"{relay.url}/openai/responses", json={}, headers=headers
        ) as answered:
            assert await anext(answered.aiter_raw()) == b"data: 1\n\n"
        await asyncio.wait_for(has_left.wait(), 5)


async def test_a_call_that_outlasts_the_servers_end_is_cut_off_without_being_a_defect(
    serve: Serve,
    open_relay: OpenRelay,
    http: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream = Upstream(hang)
    async with serve(upstream) as url, asyncio.TaskGroup() as group:
        async with open_relay(KEY, url) as relay:
            calling = group.create_task(post(http, relay.url, ANTHROPIC))
            await eventually(lambda: upstream.requests, "the provider is asked")
        told = await calling
        # A status after which OpenClaw neither tries again nor blocks the provider.
        assert (told.status_code, error_message(told.content)) == (400, "The server is stopping.")
        await asyncio.wait_for(upstream.has_left.wait(), 5)
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_call_without_a_token_of_ours_is_refused_in_the_providers_shape(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    wrong = {"authorization": "Bearer sandbox-1.wrong"}
    async with open_relay(KEY) as relay:
        answers = [
            await http.post(f"{relay.url}/{provider}/x", json={}, headers=headers)
            for provider in ModelProvider
            for headers in ({}, wrong)
        ]

    assert {each.status_code for each in answers} == {401}
    assert {error_message(each.content) for each in answers} == {"Invalid relay token."}
    assert [sorted(each.json()) for each in answers[:3]] == [["error", "type"]] * 2 + [["error"]]


async def test_an_organization_without_a_key_gets_told_how_to_set_one(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay(None) as relay:
        answered = await post(http, relay.url, GEMINI)

    failure = relay.failures.find(answered.text)
    assert answered.status_code == 400
    assert isinstance(failure, ModelKeyMissing)
    assert "gemini" in str(failure)


async def test_a_body_that_is_too_long_is_refused(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay(KEY, max_body_bytes=10) as relay:
        answered = await http.post(f"{relay.url}/anthropic/x", content=b"x" * 11)

    assert answered.status_code == 413
    assert "larger than 10 bytes" in error_message(answered.content)


async def test_a_body_that_says_it_is_too_long_is_not_awaited(open_relay: OpenRelay) -> None:
    async with open_relay(KEY, max_body_bytes=10) as relay:
        host, port = relay.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = b"POST /anthropic/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11\r\n\r\n"
        writer.write(head)
        assert b" 413 " in await reader.readline()
        writer.close()


async def test_a_body_of_so_many_values_that_others_would_have_to_wait_is_refused(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    many = b"[" + b"[]," * (UNCOUNTED_BYTES // 3) + b"1]"
    async with open_relay(OFFLINE_KEY, max_body_bytes=2 * UNCOUNTED_BYTES) as relay:
        answered = await http.post(f"{relay.url}/anthropic/v1/messages", content=many)

    assert answered.status_code == 400
    assert "more than" in error_message(answered.content)


async def test_no_client_waits_while_a_long_call_is_read(
    open_relay: OpenRelay, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = note_threads(
        monkeypatch, (relay_app, "check_values"), (untrusted_json, "read_encodable")
    )
    quoted = "Runtime: agent=" * LONG_CHARS
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": quoted}]}
    async with open_relay(OFFLINE_KEY, max_body_bytes=2 * len(quoted)) as relay:
        answered = await http.post(
            f"{relay.url}/anthropic/v1/messages", json=body, headers=TOKEN_HEADERS[ANTHROPIC]
        )

    assert answered.status_code == 200
    assert list(threads.values()) == [{LONG_VALUES}] * 2


async def test_a_sandbox_that_leaves_while_sending_costs_nothing(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay(KEY) as relay:
        host, port = relay.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /openai/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nhalf"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        health = await http.get(f"{relay.url}/health")

    assert health.json() == {"status": "ok"}


async def test_there_is_nothing_else(open_relay: OpenRelay, http: httpx.AsyncClient) -> None:
    paths = ["mistral/v1/chat", "nothing", "", "anthropic/../x", "openai/%2e%2e/x", "openai/./x"]
    async with open_relay(KEY) as relay:
        host, port = relay.url.removeprefix("http://").split(":")
        for path in paths:
            # Clients tidy paths up, so this is written by hand.
            reader, writer = await asyncio.open_connection(host, int(port))
            request = f"GET /{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            writer.write(request.encode())
            answered = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert answered.startswith(b"HTTP/1.1 404 "), path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "relay.local:2470"}, 401),
        ({}, 401),
        ({"Host": "evil.example:2470"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_browser_that_was_led_to_the_relay_gets_no_further_than_its_gate(
    open_relay: OpenRelay, http: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    path, body = REQUESTS[OPENAI]
    async with open_relay(KEY) as relay:
        answer = await http.post(f"{relay.url}/openai/{path}", json=body, headers=headers)
    assert answer.status_code == status


async def test_the_offline_key_needs_no_network(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay("offline") as relay:
        answers = [await post(http, relay.url, provider) for provider in ModelProvider]
        missing = await http.get(f"{relay.url}/openai/models", headers=TOKEN_HEADERS[OPENAI])

    assert ["[offline] Turn 1." in each.text for each in answers] == [True] * 3
    failure = relay.failures.find(missing.text)
    assert isinstance(failure, ProviderFailed)
    assert failure.status == 404
    assert "does not serve" in failure.reason


@pytest.fixture
def unused_url() -> Iterator[str]:
    # Bound but not listening: nothing else gets the port, and connections are refused.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


async def test_a_failed_model_call_is_an_event_without_what_was_said(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(answer(503, {"error": {"message": f"planted {KEY}"}}))
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        await post(http, relay.url, OPENAI)
    (event,) = relay.events.after(0)
    assert (event.type, event.instance_id, event.organization_id) == ("model.failed", "i", "o")
    assert event.members == {"provider": "openai", "status": 503, "code": "provider_failed"}


async def test_a_call_without_a_key_is_an_event_without_a_status(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay(None) as relay:
        await post(http, relay.url, OPENAI)
    (event,) = relay.events.after(0)
    assert event.members == {"provider": "openai", "status": None, "code": "model_key_missing"}


async def test_model_calls_are_counted_by_what_came_of_them(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, unused_url: str
) -> None:
    counts: dict[str, list[str]] = {}

    async def note(relay: Any) -> None:
        with contextlib.suppress(httpx.RemoteProtocolError):
            await post(http, relay.url, OPENAI)
        text = relay.metrics.render(FIGURES).decode()
        counts[relay.url] = re.findall(r"^chowder_model_calls_total(\{.+\} .+)$", text, re.M)

    upstream = Upstream(answer(200, {}), answer(500, {}), half_an_answer)
    async with serve(upstream) as url, open_relay(KEY, url) as relay:
        for _ in range(3):
            await note(relay)
    for key in ("offline", KEY, None):
        async with open_relay(key, unused_url) as other:
            await note(other)
    found = [each for samples in counts.values() for each in samples]
    outcomes = ["answered", "refused", "broken", "offline", "unreachable", "no_credentials"]
    assert found == [f'{{outcome="{each}",provider="openai"}} 1.0' for each in outcomes]


async def test_what_is_logged_of_a_model_call_names_the_instance(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "chowder_local.relay")
    caplog.handler.setFormatter(JsonLine())
    async with serve(Upstream(answer(500, {}))) as url, open_relay(KEY, url) as relay:
        await post(http, relay.url, OPENAI)
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    assert [line["instance_id"] for line in lines] == ["i", "i"]
    assert KEY not in caplog.text


async def test_a_message_to_an_agent_that_has_forgotten_what_it_relies_on_reaches_no_model(
    open_relay: OpenRelay,
) -> None:
    line = "Runtime: agent=main | session=agent:main:main | sessionId={} | host=agent"
    async with open_relay(OFFLINE_KEY) as relay, loopback_client() as client:

        async def status_in(session_id: str) -> int:
            answer = await client.post(
                f"{relay.url}/openai/responses",
                headers=TOKEN_HEADERS[OPENAI],
                json={"model": "m", "instructions": line.format(session_id), "input": "Hi"},
            )
            return answer.status_code

        sandbox_id = SandboxId("sandbox-1")
        with relay.session_watch.watching(sandbox_id, "agent:main:main", "first") as message:
            assert await status_in("first") == 200
            assert await status_in("second") == 400
        assert message.is_lost
        assert await status_in("second") == 200


FORWARDED = [
    "POST anthropic/v1/messages",
    "POST anthropic/v1/messages/count_tokens",
    "GET anthropic/v1/models",
    "GET anthropic/v1/models/claude-x",
    "POST openai/responses",
    "POST openai/responses/compact",
    "POST openai/responses/input_tokens",
    "POST openai/v1/chat/completions",
    "POST openai/embeddings",
    "POST openai/moderations",
    "POST openai/images/generations",
    "POST openai/images/edits",
    "POST openai/audio/speech",
    "POST openai/audio/transcriptions",
    "GET openai/models/ft:gpt-x:o::1",
    "POST gemini/models/gemini-x:countTokens",
    "POST gemini/models/gemini-x:batchEmbedContents",
    "GET gemini/models",
    # Of the setting.
    "GET openai/files",
    "POST openai/files/file-1/content",
]
REFUSED = [
    "POST anthropic/v1/messages/batches",
    "GET anthropic/v1/organizations/api_keys",
    "GET anthropic/v1/files",
    "POST openai/batches",
    "GET openai/organization/admin_api_keys",
    "POST openai/fine_tuning/jobs",
    "GET openai/v1/files",
    "GET openai/responses/resp_1",
    "GET openai/responses",
    "POST openai/models/gpt-x",
    "POST openai/Responses",
    "POST openai//responses",
    "POST openai/responses/",
    "POST openai/responses%2F..%2Ffiles",
    "POST openai/responses%0A",
    "GET openai/models/%2e%2e/organization/admin_api_keys",
    "GET openai/models/..%2fbatches",
    "GET openai/models/x/permissions",
    "GET openai/models/%2e%2e%2fbatches",
    "GET %6fpenai/batches",
    "GET openai/files/%2e%2e/batches",
    "GET openai/files//x",
    "GET openai/filesystem",
    "GET openai/Files",
    "GET gemini/files",
    "POST gemini/files",
    "POST gemini/models/x:batchGenerateContent",
    "POST gemini/models/x%2F..:generateContent",
    "POST gemini/cachedContents",
    "POST gemini/tunedModels",
]


async def test_the_key_goes_with_calls_of_models_and_with_the_paths_of_the_setting_only(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    upstream = Upstream(answer(200, {}))
    statuses: dict[str, int] = {}
    async with serve(upstream) as url, open_relay(KEY, url, more_paths=("openai/files",)) as relay:
        for call in (*FORWARDED, *REFUSED):
            method, path = call.split()
            # As a URL object would be normalized.
            target = httpx.URL(relay.url).copy_with(raw_path=f"/{path}".encode())
            headers = {"x-api-key": relay.token, "authorization": f"Bearer {relay.token}"}
            answered = await http.request(method, target, headers=headers)
            statuses[call] = answered.status_code
            if answered.status_code == 403:
                assert "CHOWDER_RELAY_PATHS" in error_message(answered.content)
        last = next(iter(relay.call_log.latest().values()))
    # A part of dots is refused before.
    refused = {call: 404 if ".." in unquote(call).split("/") else 403 for call in REFUSED}
    assert statuses == dict.fromkeys(FORWARDED, 200) | refused
    assert [each["path"] for each in upstream.requests] == [
        f"/{call.split()[1]}" for call in FORWARDED
    ]
    assert (last.outcome, last.status) == ("refused", 403)
