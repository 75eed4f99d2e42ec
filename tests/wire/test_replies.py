"""Scripted replies and the journal of model calls, by a relay on a real socket."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.relay.scripts.rules import ReplyScript
from tests.scripted.serving import loopback_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    OpenRelay = Callable[..., AbstractAsyncContextManager[Any]]

ANTHROPIC, OPENAI, _ = ModelProvider
ORGANIZATION, INSTANCE = OrganizationId("o"), InstanceId("i")
HEADERS = {
    "x-api-key": "sandbox-1.relay-token",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
RUNTIME = "Runtime: agent=main | session={} | sessionId=1 | host=agent"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with loopback_client(timeout=20, trust_env=False) as client:
        yield client


def script(*replies: Any, unmatched: str = "offline", tools: Sequence[str] = ()) -> ReplyScript:
    content = {"replies": replies, "unmatched": unmatched, "tools": tools}
    return ReplyScript.model_validate(content)


async def say(
    http: httpx.AsyncClient, url: str, text: str, session: str | None = "agent:main:main"
) -> httpx.Response:
    system = "You are." if session is None else "You are.\n" + RUNTIME.format(session)
    messages = [{"role": "user", "content": text}]
    body = {"model": "claude-x", "max_tokens": 9, "system": system, "messages": messages}
    return await http.post(f"{url}/anthropic/v1/messages", json=body, headers=HEADERS)


def said(answer: httpx.Response) -> str:
    text: str = answer.json()["content"][0]["text"]
    return text


async def test_a_script_is_what_the_model_says(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay("offline") as relay:
        relay.scripts.put(ORGANIZATION, script({"match": {"text": "hi"}, "reply": "Hello"}))
        matched, other = await say(http, relay.url, "Hi!"), await say(http, relay.url, "Bye")

    assert said(matched) == "Hello"
    assert said(other).startswith("[offline]")


async def test_a_call_of_a_tool_that_nobody_has_is_an_error_with_those_that_exist(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    tooling = "OpenClaw\n## Tooling\n- exec: Run shell\n## Next\n"
    tool = {"name": "get_weather", "input_schema": {"type": "object"}}
    body = {
        "model": "claude-x", "max_tokens": 9, "tools": [tool],
        "system": tooling + RUNTIME.format("agent:main:main"),
        "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip
    calls = [{"name": "bash"}, {"name": "get_weather"}]
    async with open_relay("offline") as relay:
        url = f"{relay.url}/anthropic/v1/messages"
        relay.scripts.put(INSTANCE, script({"reply": {"calls": calls}}, tools=["get_weather"]))
        known = await http.post(url, json=body, headers=HEADERS)
        relay.scripts.put(INSTANCE, script({"reply": {"call": "get_tides"}}, tools=["get_tides"]))
        unknown = await http.post(url, json=body, headers=HEADERS)

    assert [each["name"] for each in known.json()["content"]] == ["exec", "get_weather"]
    failure = relay.failures.find(unknown.text)
    assert isinstance(failure, ProviderFailed)
    assert (failure.status, failure.reason) == (
        400,
        "The reply script calls 'get_tides', which neither the client nor the agent has. "
        "The client's functions: get_weather. The agent's tools: exec.",
    )


@pytest.mark.parametrize("main", [None, "main"])
async def test_a_rule_may_be_about_one_session(
    open_relay: OpenRelay, http: httpx.AsyncClient, main: str | None
) -> None:
    rules = [
        {"match": {"session": main}, "reply": "main"},
        {"match": {"session": "alpha"}, "reply": "alpha"},
        {"reply": "any"},
    ]
    async with open_relay("offline") as relay:
        relay.scripts.put(INSTANCE, script(*rules))
        sessions = ("agent:main:main", "agent:main:alpha", "agent:main:chat-7")
        heard = [said(await say(http, relay.url, "Hi", session)) for session in sessions]

    assert heard == ["main", "alpha", "any"]


async def test_what_openclaw_asks_on_its_own_is_not_scripted(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay("offline") as relay:
        running = relay.scripts.put(INSTANCE, script({"reply": "Hello"}, unmatched="fail"))
        answer = await say(http, relay.url, "Summarize.", session=None)

    assert said(answer).startswith("[offline]")
    assert running.used == [0]
    assert not running.unmatched


async def test_a_scripted_failure_crosses_as_a_providers_does(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    rule = {"reply": {"error": 429, "message": "Slow down.", "retry_after_s": 600}}
    async with open_relay("offline") as relay:
        relay.scripts.put(INSTANCE, script(rule))
        answer = await say(http, relay.url, "Hi")

    failure = relay.failures.find(answer.text)
    assert answer.status_code == 400
    assert isinstance(failure, ProviderFailed)
    assert (failure.status, failure.reason, failure.retry_after) == (429, "Slow down.", "600")


async def test_a_limit_that_is_soon_over_is_waited_for_as_a_providers_is(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    limit = {"times": 1, "reply": {"error": 429, "retry_after_s": 0.01}}
    async with open_relay("offline") as relay:
        running = relay.scripts.put(INSTANCE, script(limit, {"reply": "Now."}))
        answer = await say(http, relay.url, "Hi")

    assert said(answer) == "Now."
    assert running.used == [1, 1]


async def test_a_limit_that_outlasts_the_relays_patience_says_that_it_was_met_twice(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    limit = {"times": 2, "reply": {"error": 429, "message": "Slow down.", "retry_after_s": 0.01}}
    async with open_relay("offline") as relay:
        running = relay.scripts.put(INSTANCE, script(limit, {"reply": "Now."}))
        answer = await say(http, relay.url, "Hi")

    failure = relay.failures.find(answer.text)
    assert isinstance(failure, ProviderFailed)
    assert "Slow down. (The relay has called the model twice" in failure.reason
    assert running.used == [2, 0]


async def test_what_no_rule_is_about_may_be_a_failure_that_says_what_was_asked(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay("offline") as relay:
        relay.scripts.put(INSTANCE, script(unmatched="fail"))
        answer = await say(http, relay.url, "How deep is the sea?", "agent:main:alpha")

    failure = relay.failures.find(answer.text)
    assert isinstance(failure, ProviderFailed)
    assert failure.status == 400
    assert "in 'alpha', \"How deep is the sea?\", model claude-x" in failure.reason


async def test_an_answer_that_is_cut_breaks_off_on_the_wire_and_is_no_error_of_ours(
    open_relay: OpenRelay, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_relay("offline") as relay:
        relay.scripts.put(INSTANCE, script({"reply": {"chunks": ["Once", {"cut": True}]}}))
        with pytest.raises(httpx.RemoteProtocolError):
            await say(http, relay.url, "Tell me a story.")
        (call,) = relay.call_log.of_instance(INSTANCE)

    assert call.outcome == "broken"
    assert "cut the answer off" in (call.error or "")
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_call_is_kept_with_its_request_and_what_came_back(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay("offline") as relay:
        relay.scripts.put(INSTANCE, script({"name": "greeting", "reply": "Hello"}))
        answer = await say(http, relay.url, "Hi", "agent:main:alpha")
        (call,) = relay.call_log.of_instance(INSTANCE)

    assert call.body == answer.request.content
    assert b"".join(chunk.data for chunk in call.chunks) == answer.content
    assert call.answer_bytes == len(answer.content)
    assert call.turn_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert call.session_key == "agent:main:alpha"
    assert (call.source, call.status) == ("script: greeting", 200)
    assert call.outcome == "offline"


async def test_a_call_that_fails_is_kept_with_why(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    # Nobody listens there.
    async with open_relay("a-real-key", "http://127.0.0.1:9") as relay:
        await say(http, relay.url, "Hi")
        (call,) = relay.call_log.of_instance(INSTANCE)

    assert (call.source, call.status, call.outcome) == ("provider", None, "unreachable")
    assert call.session_key == "agent:main:main"
    assert "anthropic did not answer" in (call.error or "")
