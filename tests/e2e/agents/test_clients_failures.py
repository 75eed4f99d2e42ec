"""What each SDK makes of our refusals: the error that its users catch.

Only the agent whose stream breaks off is real: what the others refuse is not OpenClaw's to say.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.e2e.agents.conftest import MODEL_KEYS
from tests.e2e.api import Api
from tests.e2e.quick_agents import open_quick_server
from tests.e2e.stand_in import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from langchain_openai import ChatOpenAI
    from openai import APIStatusError

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


@pytest.fixture
def url(quick_server: ServerProcess, quick_ids: list[str]) -> str:
    """Where an SDK talks with a running agent."""
    return f"{quick_server.base_url}/instances/{quick_ids[0]}"


@pytest.fixture(scope="module")
def asking(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    stand_in: StandIn,
    request: pytest.FixtureRequest,
) -> Iterator[tuple[str, str]]:
    """URL and key of an agent that asks its model, the stand-in, with every message."""
    settings = stand_in.settings | {"CHOWDER_OFFLINE": "false"}
    folder, asks = tmp_path_factory.mktemp("asking"), {"QUICK_GATEWAY_ASKS": "yes"}
    with open_quick_server(folder, engine, request.config, settings, **asks) as server:
        with Api(server.base_url, server.key) as api:
            answer = api.patch("organization", json={"model_api_keys": MODEL_KEYS})
            assert answer.status_code == 200, answer.text
            instance_id = api.created("asking")
            api.until(instance_id, "running")
        yield f"{server.base_url}/instances/{instance_id}", server.key


def whole(raised: pytest.ExceptionInfo[APIStatusError]) -> Failure:
    kinds = frozenset(kind.__name__ for kind in raised.type.__mro__)
    return Failure(kinds, raised.value.status_code, str(raised.value))


def fail_openai(base_url: str, key: str, model: str = MODEL, text: str = "Hello?") -> Failure:
    from openai import APIStatusError, OpenAI

    with (
        OpenAI(base_url=base_url, api_key=key, max_retries=0) as client,
        pytest.raises(APIStatusError) as raised,
    ):
        client.responses.create(model=model, input=text)
    return whole(raised)


def fail_agents_sdk(base_url: str, key: str) -> Failure:
    from openai import APIStatusError

    with pytest.raises(APIStatusError) as raised:
        asyncio.run(run_agent(base_url, key, is_streamed=False))
    return whole(raised)


def fail_langchain(base_url: str, key: str) -> Failure:
    from openai import APIStatusError

    with pytest.raises(APIStatusError) as raised:
        chat_model(base_url, key).invoke("Hello?")
    return whole(raised)


async def run_agent(base_url: str, key: str, *, is_streamed: bool) -> None:
    from agents import Agent, OpenAIResponsesModel, RunConfig, Runner
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        agent = Agent(name="Any", model=OpenAIResponsesModel(MODEL, openai_client=client))
        untraced = RunConfig(tracing_disabled=True)
        if not is_streamed:
            await Runner.run(agent, "Hello?", run_config=untraced)
            return
        async for _ in Runner.run_streamed(agent, "Hello?", run_config=untraced).stream_events():
            pass


def chat_model(base_url: str, key: str) -> ChatOpenAI:
    from langchain_openai import ChatOpenAI

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


def test_a_wrong_key_is_every_sdks_authentication_error(javascript: Programs, url: str) -> None:
    assert_all_fail(javascript, url, "chd_org_wrong", 401, "Invalid API key.")


def test_an_unknown_agent_is_every_sdks_not_found_error(
    javascript: Programs, quick_server: ServerProcess
) -> None:
    url = f"{quick_server.base_url}/instances/{uuid.uuid4()}"
    assert_all_fail(javascript, url, quick_server.key, 404, "Instance not found.")


def test_a_stopped_agent_is_every_sdks_conflict_error(
    javascript: Programs, quick_api: Api, quick_server: ServerProcess, quick_ids: list[str]
) -> None:
    _, agent = quick_ids
    quick_api.stop(agent)
    url = f"{quick_server.base_url}/instances/{agent}"
    assert_all_fail(javascript, url, quick_server.key, 409, "Instance is stopped")


@pytest.mark.parametrize(
    ("model", "text", "status", "words"),
    [("llama3", "Hello?", 400, "Unknown model 'llama3'"), (MODEL, "", 422, "body.input: ")],
)
def test_what_is_wrong_with_a_message_is_read_in_openais_sdks(
    javascript: Programs,
    quick_server: ServerProcess,
    url: str,
    model: str,
    text: str,
    status: int,
    words: str,
) -> None:
    key = quick_server.key
    failure = fail_openai(url, key, model, text)
    seen = javascript.run("openai-failure.mjs", url, key, model=model, input=text)
    assert (failure.status, seen["status"]) == (status, status)
    for shown in (failure.words, seen["words"]):
        assert words in shown


@pytest.mark.parametrize("status", [402, 429])
def test_a_providers_refusal_is_every_sdks_own_error_for_it(
    javascript: Programs, asking: tuple[str, str], stand_in: StandIn, status: int
) -> None:
    with stand_in.behaving(refusal(status, WORDS)):
        assert_all_fail(javascript, *asking, status, WORDS)


def assert_all_streams_fail(
    javascript: Programs, base_url: str, key: str, kind: type[Exception], words: str
) -> None:
    """Every SDK says why a stream fails, and no one takes it for an empty answer."""
    from openai import OpenAI

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


def test_a_refusal_before_a_stream_is_every_sdks_own_error_for_it(
    javascript: Programs, asking: tuple[str, str], stand_in: StandIn
) -> None:
    from openai import RateLimitError

    with stand_in.behaving(refusal(429, WORDS)):
        assert_all_streams_fail(javascript, *asking, RateLimitError, WORDS)


def test_a_failure_inside_a_stream_brings_its_words_to_every_sdk(
    javascript: Programs, api: Api, server: ServerProcess, instance: str, conversation: str
) -> None:
    from openai import APIError

    path = f"../local/instances/{instance}/replies"
    session = conversation.rpartition("/")[2]
    told = {"match": {"session": session}, "reply": {"chunks": ["Once upon ", {"cut": True}]}}
    assert api.put(path, json={"replies": [told]}).status_code == 200
    try:
        assert_all_streams_fail(
            javascript, conversation, server.key, APIError, "failed within its answer"
        )
    finally:
        assert api.delete(path).status_code == 204
