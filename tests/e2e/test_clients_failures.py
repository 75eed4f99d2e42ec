"""What each SDK makes of our refusals: the error that its users catch."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner
from langchain_openai import ChatOpenAI
from openai import APIError, APIStatusError, AsyncOpenAI, OpenAI, RateLimitError
from pydantic import SecretStr

from tests.e2e.stand_in import refusal

if TYPE_CHECKING:
    from tests.e2e.api import Api
    from tests.e2e.node import Programs
    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

pytestmark = [pytest.mark.docker, pytest.mark.slow]

MODEL = "gpt-4o"
WORDS = "Slow down, says the provider."


@dataclass(frozen=True)
class Failure:
    """An error as a program meets it."""

    kinds: frozenset[str]
    status: int
    words: str
    """What the program shows its user: the error as text."""


def whole(raised: pytest.ExceptionInfo[APIStatusError]) -> Failure:
    kinds = frozenset(kind.__name__ for kind in raised.type.__mro__)
    return Failure(kinds, raised.value.status_code, str(raised.value))


def fail_openai(base_url: str, key: str, model: str = MODEL, text: str = "Hello?") -> Failure:
    with (
        OpenAI(base_url=base_url, api_key=key, max_retries=0) as client,
        pytest.raises(APIStatusError) as raised,
    ):
        client.responses.create(model=model, input=text)
    return whole(raised)


def fail_agents_sdk(base_url: str, key: str) -> Failure:
    with pytest.raises(APIStatusError) as raised:
        asyncio.run(run_agent(base_url, key, is_streamed=False))
    return whole(raised)


def fail_langchain(base_url: str, key: str) -> Failure:
    with pytest.raises(APIStatusError) as raised:
        chat_model(base_url, key).invoke("Hello?")
    return whole(raised)


async def run_agent(base_url: str, key: str, *, is_streamed: bool) -> None:
    async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        agent = Agent(name="Any", model=OpenAIResponsesModel(MODEL, openai_client=client))
        untraced = RunConfig(tracing_disabled=True)
        if not is_streamed:
            await Runner.run(agent, "Hello?", run_config=untraced)
            return
        async for _ in Runner.run_streamed(agent, "Hello?", run_config=untraced).stream_events():
            pass


def chat_model(base_url: str, key: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL,
        base_url=base_url,
        api_key=SecretStr(key),
        use_responses_api=True,
        max_retries=0,
    )


FAIL = {"openai": fail_openai, "agents": fail_agents_sdk, "langchain": fail_langchain}
FAIL_IN_NODE = {"openai in node": "openai-failure.mjs", "vercel": "vercel-failure.mjs"}
KINDS = {
    401: "AuthenticationError",
    402: "APIError",
    404: "NotFoundError",
    409: "ConflictError",
    429: "RateLimitError",
}


def assert_all_fail(javascript: Programs, base_url: str, key: str, status: int, words: str) -> None:
    """Every SDK raises the error that its users know for a status, and it says why."""
    failures = {name: fail(base_url, key) for name, fail in FAIL.items()}
    for name, program in FAIL_IN_NODE.items():
        seen = javascript.run(program, base_url, key)
        failures[name] = Failure(frozenset({seen["kind"]}), seen["status"], seen["words"])
    for name, failure in failures.items():
        assert failure.status == status, name
        assert words in failure.words, name
        # Vercel's has one kind for them all.
        kind = "AI_APICallError" if name == "vercel" else KINDS[status]
        assert kind in failure.kinds, name


def test_a_wrong_key_is_every_sdks_authentication_error(
    javascript: Programs, conversation: str
) -> None:
    assert_all_fail(javascript, conversation, "chd_org_wrong", 401, "Invalid API key.")


def test_an_unknown_agent_is_every_sdks_not_found_error(
    javascript: Programs, server: ServerProcess
) -> None:
    url = f"{server.base_url}/instances/{uuid.uuid4()}"
    assert_all_fail(javascript, url, server.key, 404, "Instance not found.")


def test_a_stopped_agent_is_every_sdks_conflict_error(
    javascript: Programs, api: Api, server: ServerProcess, patient: str
) -> None:
    api.stop(patient)
    url = f"{server.base_url}/instances/{patient}"
    assert_all_fail(javascript, url, server.key, 409, "Instance is stopped")


@pytest.mark.parametrize(
    ("model", "text", "status", "words"),
    [("llama3", "Hello?", 400, "Unknown model 'llama3'"), (MODEL, "", 422, "body.input: ")],
)
def test_what_is_wrong_with_a_message_is_read_in_openais_sdks(
    javascript: Programs,
    server: ServerProcess,
    conversation: str,
    model: str,
    text: str,
    status: int,
    words: str,
) -> None:
    url, key = conversation, server.key
    failure = fail_openai(url, key, model, text)
    seen = javascript.run("openai-failure.mjs", url, key, model=model, input=text)
    assert (failure.status, seen["status"]) == (status, status)
    for shown in (failure.words, seen["words"]):
        assert words in shown


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("status", [402, 429])
def test_a_providers_refusal_is_every_sdks_own_error_for_it(
    javascript: Programs,
    server: ServerProcess,
    conversation: str,
    stand_in: StandIn,
    status: int,
) -> None:
    with stand_in.behaving(refusal(status, WORDS)):
        assert_all_fail(javascript, conversation, server.key, status, WORDS)


def assert_all_streams_fail(
    javascript: Programs, base_url: str, key: str, kind: type[Exception], words: str
) -> None:
    """Every SDK says why a stream fails, and no one takes it for an empty answer."""
    for program in FAIL_IN_NODE.values():
        seen = javascript.run(program, base_url, key, stream=True)
        assert words in seen["words"], program
    with pytest.raises(kind, match=words):
        asyncio.run(run_agent(base_url, key, is_streamed=True))
    with pytest.raises(kind, match=words):
        list(chat_model(base_url, key).stream("Hello?"))
    with (
        OpenAI(base_url=base_url, api_key=key, max_retries=0) as client,
        pytest.raises(kind, match=words),
    ):
        list(client.responses.create(model=MODEL, input="Hello?", stream=True))


@pytest.mark.usefixtures("keyed")
def test_a_refusal_before_a_stream_is_every_sdks_own_error_for_it(
    javascript: Programs, server: ServerProcess, conversation: str, stand_in: StandIn
) -> None:
    with stand_in.behaving(refusal(429, WORDS)):
        assert_all_streams_fail(javascript, conversation, server.key, RateLimitError, WORDS)


def test_a_failure_inside_a_stream_brings_its_words_to_every_sdk(
    javascript: Programs, api: Api, server: ServerProcess, instance: str, conversation: str
) -> None:
    path = f"../local/instances/{instance}/replies"
    session = conversation.rpartition("/")[2]
    told = {"match": {"session": session}, "reply": {"chunks": ["Once upon ", {"cut": True}]}}
    assert api.put(path, json={"replies": [told]}).status_code == 200
    try:
        assert_all_streams_fail(
            javascript, conversation, server.key, APIError, "it broke off its answer"
        )
    finally:
        assert api.delete(path).status_code == 204
