"""Faults on running agents, as a program that is tested against them meets them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from chowder_local.client import Client
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai import OpenAI

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

MODEL = "gpt-4o"
FAILURES = {
    402: "APIStatusError",
    409: "ConflictError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "InternalServerError",
}


@pytest.fixture
def server(quick_server: ServerProcess) -> ServerProcess:
    return quick_server


@pytest.fixture
def agent(quick_ids: list[str]) -> str:
    return quick_ids[0]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client whose organization has no faults afterwards."""
    with Client(server.base_url, server.key) as client:
        yield client
        client.clear_faults()


@pytest.fixture
def sdk(server: ServerProcess, agent: str) -> Iterator[OpenAI]:
    """An SDK in a conversation of its own."""
    from openai import OpenAI

    base_url = f"{server.base_url}/instances/{agent}/session/{uuid.uuid4()}"
    with OpenAI(base_url=base_url, api_key=server.key, max_retries=0) as sdk:
        yield sdk


def test_a_program_meets_the_failure_that_was_ordered_and_no_other(
    client: Client, agent: str, sdk: OpenAI
) -> None:
    import openai

    seen = {}
    for status in FAILURES:
        client.add_fault("message", status=status, instance_id=agent)
        with pytest.raises(openai.APIStatusError) as raised:
            sdk.responses.create(model=MODEL, input=f"Hello {status}?")
        seen[raised.value.status_code] = raised.type.__name__
        answer = sdk.responses.create(model=MODEL, input=f"Hello again, {status}?")
        # The agent has heard of these alone.
        turns = f"Turn {len(seen)}. First: Hello again, {next(iter(FAILURES))}?"
        assert answer.output_text.startswith(turns), (status, answer.output_text)
    assert seen == FAILURES


def test_a_program_that_tries_again_after_a_limit_gets_its_answer(
    client: Client, agent: str, sdk: OpenAI
) -> None:
    client.add_fault("message", status=429, retry_after_s=0, instance_id=agent)
    patient = sdk.with_options(max_retries=1)
    answer = patient.responses.create(model=MODEL, input="Hello?")
    assert answer.output_text == "Turn 1. First: Hello?"
    assert client.faults() == []


def test_a_stream_breaks_off_and_the_conversation_goes_on(
    client: Client, agent: str, sdk: OpenAI
) -> None:
    import openai

    client.add_fault("stream", after_events=3, instance_id=agent)
    seen: list[str] = []

    def watch() -> None:
        for event in sdk.responses.create(model=MODEL, input="Hello?", stream=True):
            seen.append(event.type)

    with pytest.raises(openai.APIConnectionError):
        watch()
    assert seen == ["response.created", "response.in_progress", "response.output_item.added"]
    assert sdk.responses.create(model=MODEL, input="Still there?").output_text


def test_provisioning_fails_in_words(client: Client, quick_api: Api) -> None:
    client.add_fault("provisioning", detail="No room in the harbour.")
    instance_id = quick_api.created(f"unlucky-{uuid.uuid4()}")
    with pytest.raises(BootFailed, match=r"^No room in the harbour\.$"):
        client.wait_until_running(instance_id)
    client.delete(instance_id)


def test_a_stop_and_a_start_fail_before_they_do_what_they_should(
    client: Client, agent: str
) -> None:
    for kind, there in (("stop", "running"), ("start", "stopped")):
        client.add_fault(kind, instance_id=agent)
        act = client.stop if kind == "stop" else client.start
        with pytest.raises(ApiRefused, match="The container engine does not answer"):
            act(agent)
        assert client.status(agent)["status"] == there
        act(agent)
