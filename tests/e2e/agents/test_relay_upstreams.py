"""The relay between real agents and an independent stand-in for the model providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.agents.conftest import MODEL_KEYS
from tests.e2e.api import responses_path
from tests.e2e.containers import config_of, container_of
from tests.e2e.stand_in import break_off, refusal

if TYPE_CHECKING:
    import docker
    import httpx

    from tests.e2e.api import Api
    from tests.e2e.stand_in import Recorded, StandIn

pytestmark = pytest.mark.docker

MODELS = {
    "anthropic": "claude-sonnet-4-20250514",
    "openai": "gpt-4o",
    "gemini": "gemini-2.0-flash",
}
SESSION = "upstreams"
KEY_HEADERS = {
    "anthropic": ("x-api-key", "{}"),
    "openai": ("authorization", "Bearer {}"),
    "gemini": ("x-goog-api-key", "{}"),
}


@pytest.fixture
def relay_token(keyed: Api, instance: str, engine: docker.DockerClient) -> str:
    """What the sandbox has in place of a key."""
    config = config_of(container_of(engine, keyed, instance))
    token: str = config["models"]["providers"]["chowder-openai"]["apiKey"]
    return token


def key_in(recorded: Recorded, provider: str) -> str | None:
    return recorded.headers.get(KEY_HEADERS[provider][0])


@pytest.mark.parametrize("provider", list(MODELS))
def test_the_organizations_key_arrives_at_its_provider_and_nothing_else_does(
    keyed: Api, instance: str, stand_in: StandIn, relay_token: str, provider: str
) -> None:
    stand_in.requests.clear()
    assert keyed.say(instance, "Say something.", model=MODELS[provider], session=SESSION)
    assert stand_in.requests
    for recorded in stand_in.requests:
        assert key_in(recorded, provider) == KEY_HEADERS[provider][1].format(MODEL_KEYS[provider])
        assert "Say something." in recorded
        assert relay_token not in recorded
        others = [key for name, key in MODEL_KEYS.items() if name != provider]
        assert not [key for key in others if key in recorded]


def assert_works(keyed: Api, instance_id: str, provider: str) -> None:
    """No cooldown: the very next message is answered."""
    assert keyed.say(instance_id, "Again.", model=MODELS[provider], session=SESSION)


# OpenClaw gets status 400 for each of them, so one a provider is enough here.
@pytest.mark.parametrize(
    ("provider", "status"), [("anthropic", 529), ("openai", 403), ("gemini", 503)]
)
def test_a_providers_refusal_is_the_clients_answer(
    keyed: Api, instance: str, stand_in: StandIn, provider: str, status: int
) -> None:
    stand_in.requests.clear()
    with stand_in.behaving(refusal(status, "No way, says the provider.")):
        answer = keyed.message(instance, "Please.", model=MODELS[provider], session=SESSION)
    error = answer.json()["detail"]["error"]
    assert (answer.status_code, len(stand_in.requests)) == (status, 1), answer.text
    assert "No way, says the provider." in error
    assert provider in error
    assert_works(keyed, instance, provider)


def streamed(keyed: Api, instance_id: str, provider: str) -> httpx.Response:
    """The answer to a message that asks for a stream."""
    body = {"model": MODELS[provider], "input": "Go.", "stream": True}
    return keyed.post(responses_path(instance_id, SESSION), json=body)


@pytest.mark.parametrize(
    ("provider", "status"), [("anthropic", 401), ("openai", 429), ("gemini", 500)]
)
def test_a_refusal_before_a_streams_first_words_is_its_answer(
    keyed: Api, instance: str, stand_in: StandIn, provider: str, status: int
) -> None:
    with stand_in.behaving(refusal(status, "No way, says the provider.")):
        answer = streamed(keyed, instance, provider)
    assert answer.status_code == status
    assert "No way, says the provider." in answer.json()["error"]["message"]
    assert_works(keyed, instance, provider)


def test_an_answer_that_breaks_off_ends_its_stream_with_words(
    keyed: Api, instance: str, stand_in: StandIn
) -> None:
    with stand_in.behaving(break_off):
        *_, error, last = keyed.events(instance, "Go.", session=SESSION)
    assert (error["type"], last["type"]) == ("error", "response.failed")
    assert "broke off" in error["message"]
    assert last["response"]["error"]["message"] == error["message"]
    assert_works(keyed, instance, "anthropic")
