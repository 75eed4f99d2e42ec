"""What each SDK makes of our refusals: the error that its users catch."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from agents import Agent, ModelBehaviorError, OpenAIResponsesModel, RunConfig, Runner
from langchain_openai import ChatOpenAI
from openai import APIStatusError, AsyncOpenAI, OpenAI
from pydantic import SecretStr

from tests.e2e.node import install_clients, run_client
from tests.e2e.stand_in import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.api import Api
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


def whole(raised: pytest.ExceptionInfo[APIStatusError]) -> Failure:
    kinds = frozenset(kind.__name__ for kind in raised.type.__mro__)
    return Failure(kinds, raised.value.status_code)


def fail_openai(base_url: str, key: str) -> Failure:
    with (
        OpenAI(base_url=base_url, api_key=key, max_retries=0) as client,
        pytest.raises(APIStatusError) as raised,
    ):
        client.responses.create(model=MODEL, input="Hello?")
    return whole(raised)


def fail_agents_sdk(base_url: str, key: str) -> Failure:
    with pytest.raises(APIStatusError) as raised:
        asyncio.run(run_agent(base_url, key, is_streamed=False))
    return whole(raised)


def fail_langchain(base_url: str, key: str) -> Failure:
    with pytest.raises(APIStatusError) as raised:
        chat_model(base_url, key).invoke("Hello?")
    return whole(raised)


def fail_node(program: str) -> Callable[[str, str], Failure]:
    def fail(base_url: str, key: str) -> Failure:
        seen = run_client(program, base_url, key)["whole"]
        return Failure(frozenset({seen["kind"]}), seen["status"])

    return fail


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


FAIL = {
    "openai": fail_openai,
    "agents": fail_agents_sdk,
    "langchain": fail_langchain,
    "openai in node": fail_node("openai-failure.mjs"),
    "vercel": fail_node("vercel-failure.mjs"),
}
KINDS = {
    401: "AuthenticationError",
    402: "APIError",
    404: "NotFoundError",
    409: "ConflictError",
    429: "RateLimitError",
}


def assert_all_fail(base_url: str, key: str, status: int) -> None:
    """Every SDK raises the error that its users know for a status."""
    for name, fail in FAIL.items():
        failure = fail(base_url, key)
        assert failure.status == status, name
        # Vercel's has one kind for them all.
        kind = "AI_APICallError" if name == "vercel" else KINDS[status]
        assert kind in failure.kinds, name


@pytest.fixture(scope="module", autouse=True)
def _clients() -> None:
    install_clients()


def test_a_wrong_key_is_every_sdks_authentication_error(conversation: str) -> None:
    assert_all_fail(conversation, "chd_org_wrong", 401)


def test_an_unknown_agent_is_every_sdks_not_found_error(server: ServerProcess) -> None:
    assert_all_fail(f"{server.base_url}/instances/{uuid.uuid4()}", server.key, 404)


def test_a_stopped_agent_is_every_sdks_conflict_error(
    api: Api, server: ServerProcess, patient: str
) -> None:
    api.stop(patient)
    assert_all_fail(f"{server.base_url}/instances/{patient}", server.key, 409)


@pytest.mark.parametrize("status", [402, 429])
def test_a_providers_refusal_is_every_sdks_own_error_for_it(
    live_conversation: str, live_key: str, stand_in: StandIn, status: int
) -> None:
    with stand_in.behaving(refusal(status, WORDS)):
        assert_all_fail(live_conversation, live_key, status)


def test_a_refusal_inside_a_stream_brings_the_providers_words_to_every_sdk(
    live_conversation: str, live_key: str, stand_in: StandIn
) -> None:
    url, key = live_conversation, live_key
    with stand_in.behaving(refusal(429, WORDS)):
        for program in ("openai-failure.mjs", "vercel-failure.mjs"):
            assert WORDS in run_client(program, url, key)["streamed"]["words"], program
        with pytest.raises(ModelBehaviorError, match=WORDS):
            asyncio.run(run_agent(url, key, is_streamed=True))
        with pytest.raises(ValueError, match=WORDS):
            list(chat_model(url, key).stream("Hello?"))
        with OpenAI(base_url=url, api_key=key, max_retries=0) as client:
            *_, last = client.responses.create(model=MODEL, input="Hello?", stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "rate_limit_exceeded"
    assert WORDS in last.response.error.message
