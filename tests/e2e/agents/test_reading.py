"""Reading back from real agents: what was said, whatever state they are in, and what it cost."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.client import Client
from tests.e2e.api import responses_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.base_url, server.key) as client:
        yield client


@pytest.fixture
def conversation() -> str:
    """The name of a conversation of the test's own."""
    return str(uuid.uuid4())


def said(transcript: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(turn["role"], turn["text"]) for turn in transcript["turns"]]


def test_an_answer_is_in_the_transcript_once_it_has_come(
    client: Client, instance: str, conversation: str
) -> None:
    for number in range(3):
        words = f"  Number {number}.\n"
        answer = client.respond(instance, words, "gpt-4o", conversation)
        *_, asked, told = client.transcript(instance, conversation)["turns"]
        assert (asked["role"], asked["text"]) == ("user", words)
        assert told["role"] == "assistant"
        assert told["text"] == answer["output"][0]["content"][0]["text"]
        assert (told["response_id"], told["model"]) == (answer["id"], "gpt-4o")
        assert told["usage"]["input_tokens"] == answer["usage"]["input_tokens"]
        assert told["usage"]["output_tokens"] == answer["usage"]["output_tokens"]
    last = client.transcript(instance, conversation, limit=2)
    assert last["before"] == 4
    older = client.transcript(instance, conversation, limit=3, before=4)
    assert [turn["position"] for turn in older["turns"]] == [1, 2, 3]


@pytest.mark.parametrize("model", ["claude-sonnet-4-20250514", "gpt-4o", "gemini-2.0-flash"])
def test_the_agents_own_tool_is_told_with_what_it_did(
    client: Client, instance: str, conversation: str, model: str
) -> None:
    client.respond(instance, 'call exec {"command": "echo fresh fish"}', model, conversation)
    _, called, result, answered = client.transcript(instance, conversation)["turns"]
    assert (called["role"], called["name"]) == ("tool_call", "exec")
    assert called["arguments"] == {"command": "echo fresh fish"}
    assert (result["role"], result["name"], result["text"]) == ("tool_result", "exec", "fresh fish")
    assert result["call_id"] == called["call_id"]
    assert answered["role"] == "assistant"


@pytest.mark.usefixtures("prompt_texts")
def test_a_clients_function_and_its_answer_are_told_as_such(
    api: Api, client: Client, instance: str, conversation: str
) -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    path = responses_path(instance, conversation)
    ask = {"model": "gpt-4o", "tools": [tool], "input": 'call weather {"city": "Oslo"}'}
    call = api.post(path, json=ask).json()["output"][0]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    api.post(path, json=ask | {"input": [result]})
    _, called, returned, _ = client.transcript(instance, conversation)["turns"]
    assert (called["role"], called["arguments"]) == ("tool_call", {"city": "Oslo"})
    assert (returned["role"], returned["text"]) == ("tool_result", "rain")
    assert (returned["name"], returned["call_id"]) == ("weather", called["call_id"])


def test_a_stopped_agent_is_read(api: Api, client: Client, patient: str) -> None:
    name = uuid.uuid4().hex
    api.say(patient, "Hello, main.")
    api.say(patient, "Hello, you.", session=name)
    sessions, transcript = client.sessions(patient), client.transcript(patient, name)
    assert said(transcript)[0] == ("user", "Hello, you.")
    api.stop(patient)
    assert client.sessions(patient) == sessions
    assert client.transcript(patient, name) == transcript
    api.start(patient)
    assert "Turn 2." in api.say(patient, "Still there?", session=name)
    assert len(client.transcript(patient, name)["turns"]) == 4


def test_what_was_used_is_counted_by_conversation_and_model(
    client: Client, instance: str, conversation: str
) -> None:
    models = ["claude-sonnet-4-20250514", "gpt-4o", "gemini-2.0-flash"]
    answers = {model: client.respond(instance, "Hi", model, conversation) for model in models}
    report = client.usage(instance)
    rows = {row["model"]: row for row in report["rows"] if row["session"] == conversation}
    for model, answer in answers.items():
        assert rows[model]["input_tokens"] == answer["usage"]["input_tokens"]
        assert rows[model]["output_tokens"] == answer["usage"]["output_tokens"]
        assert (rows[model]["calls"], rows[model]["unmetered_calls"]) == (1, 0)
        # The offline model costs nothing.
        assert (rows[model]["is_billed"], rows[model]["cost_usd"]) == (False, 0)
    assert report["totals"]["calls"] >= len(models)
    assert client.usage()["totals"]["calls"] >= report["totals"]["calls"]
