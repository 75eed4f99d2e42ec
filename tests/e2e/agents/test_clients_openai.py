"""What `openai` for Python does beyond creating, streaming and calling: conversations, types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai import OpenAI

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

MODEL = "gpt-4o"
MODELS = (MODEL, "claude-sonnet-4-20250514", "gemini-2.0-flash")
INCLUDE: Any = ["agent.tool_calls"]
"""Not one of those that the SDK's types know."""
ASKED = 'Which place? {"city": "Oslo", "people": 700000}'


class Place(BaseModel):
    city: str
    people: int


OSLO = Place(city="Oslo", people=700_000)


@pytest.fixture
def client(server: ServerProcess, conversation: str) -> Iterator[OpenAI]:
    from openai import OpenAI

    with OpenAI(base_url=conversation, api_key=server.key, max_retries=0) as client:
        yield client


def test_a_conversation_goes_on_with_and_without_a_response_id(client: OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="My name is Ada.")
    second = client.responses.create(
        model=MODEL, input="What is my name?", previous_response_id=first.id
    )
    assert 'Before that: "My name is Ada."' in second.output_text
    assert second.previous_response_id == first.id
    third = client.responses.create(model=MODEL, input="And now?")
    assert 'Before that: "What is my name?"' in third.output_text


def test_the_tools_that_the_agent_ran_are_items_of_its_answer_and_may_be_sent_back(
    client: OpenAI,
) -> None:
    from openai.types.responses.response_output_item import McpCall

    items: list[Any] = []
    for model in MODELS:
        items.append({"role": "user", "content": 'call exec {"command": "echo $((6*7))"}'})
        with client.responses.stream(model=model, input=items, include=INCLUDE) as stream:
            output = stream.get_final_response().output
        tool_call = output[-1]
        assert isinstance(tool_call, McpCall)
        assert (tool_call.name, json.loads(tool_call.arguments)["command"]) == (
            "exec",
            "echo $((6*7))",
        )
        assert "42" in (tool_call.output or "")
        items += [each.to_dict() for each in output]
    items.append({"role": "user", "content": "And now?"})
    last = client.responses.create(model=MODEL, input=items)
    assert 'Before that: "call exec' in last.output_text


def test_an_answer_that_fits_a_type_is_parsed_whole_and_streamed(client: OpenAI) -> None:
    whole = client.responses.parse(model=MODEL, input=ASKED, text_format=Place)
    assert whole.output_parsed == OSLO
    with client.responses.stream(model=MODEL, input=ASKED, text_format=Place) as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.output_parsed == OSLO
    assert "".join(deltas) == final.output_text


def test_a_response_carries_the_id_that_the_servers_log_has(
    client: OpenAI, server: ServerProcess
) -> None:
    response = client.responses.create(model=MODEL, input="Hello!")
    request_id = response._request_id
    assert request_id is not None
    eventually(lambda: request_id in server.log(), "the request is in the log")
