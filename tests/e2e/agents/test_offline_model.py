"""The offline model through a real agent, as clients meet it that know only the API."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from chowder_local.relay.offline_model import client_functions
from chowder_local.relay.wire.openai import Responses
from tests.e2e.api import CLAUDE, Api, responses_path
from tests.e2e.open_responses import WEATHER, asks_for_weather, calls_in, message, sent
from tests.e2e.serving import is_before

pytestmark = pytest.mark.docker

TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}}


def text_in(response: dict[str, Any]) -> str:
    (message,) = response["output"]
    text: str = message["content"][0]["text"]
    return text


@pytest.fixture
def path(instance: str) -> str:
    """Where messages go to a conversation of the test's own."""
    return responses_path(instance, uuid.uuid4().hex)


@pytest.mark.skipif(is_before("2026.9.1"), reason="OpenClaw does not say that an answer was cut")
@pytest.mark.parametrize(
    ("model", "stream"),
    [
        (CLAUDE, True),
        ("gpt-4o", False),
        ("gemini-2.0-flash", True),
    ],
)
def test_an_answer_that_is_longer_than_allowed_is_incomplete(
    api: Api, path: str, model: str, *, stream: bool
) -> None:
    question = "How deep is the sea at its deepest point?"
    asked = {"model": model, "stream": stream, "max_output_tokens": 16}
    response, events = sent(api, path, input=question, **asked)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    whole = f'[offline] Turn 1. You said: "{question}"'
    assert text_in(response).startswith(whole[:64].rstrip())
    assert whole[64:] not in text_in(response)
    assert response["usage"]["output_tokens"] == 16
    assert not stream or events[-1]["type"] == "response.incomplete"
    # The conversation goes on.
    later, _ = sent(api, path, input="And now?", model=model)
    assert later["status"] == "completed"
    assert "Turn 2." in text_in(later)


@pytest.mark.usefixtures("prompt_texts")
def test_a_function_is_called_once_and_then_told_of(api: Api, path: str) -> None:
    tools = [WEATHER, TIME]
    hello, _ = sent(api, path, input="Hello", tools=tools)
    assert calls_in(hello) == []
    asked, _ = sent(api, path, **asks_for_weather(stream=False) | {"tools": tools})
    (call,) = (item for item in asked["output"] if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    told, _ = sent(api, path, input=[output], tools=tools)
    assert calls_in(told) == []
    assert 'Tool get_weather answered: "sunny"' in text_in(told)
    lines = 'call get_weather {"location": "Oslo"}\ncall get_time'
    both, _ = sent(api, path, input=lines, tools=tools)
    assert calls_in(both) == [("get_weather", {"location": "Oslo"}), ("get_time", {})]


def test_the_agents_own_tools_are_told_from_the_clients_functions(
    api: Api, instance: str, path: str
) -> None:
    sent(api, path, input="Hello", tools=[WEATHER, TIME])
    local = str(api.base_url).replace("/v1/", "/local/")
    latest = api.get(f"{local}instances/{instance}/model-calls").json()[0]
    request = api.get(f"{local}model-calls/{latest['id']}").json()["request"]
    conversation = Responses().parse(request)
    assert len(conversation.tools) > 10
    theirs = {tool.name for tool in client_functions(conversation)}
    assert theirs == {"get_weather", "get_time"}


def test_an_answer_in_json_is_the_object_in_the_message(api: Api, path: str) -> None:
    form = {"format": {"type": "json_object"}}
    response, _ = sent(api, path, input='Repeat {"tide": ["low", 1]}.', text=form)
    assert json.loads(text_in(response)) == {"tide": ["low", 1]}


def test_what_openclaw_is_lenient_with_is_taken(api: Api, path: str) -> None:
    output = {"type": "function_call_output", "call_id": "call_of_nobody", "output": "sunny"}
    more = {
        "previous_response_id": "resp_of_nobody",
        "truncation": "auto",
        "metadata": {f"key-{number}": "x" * 600 for number in range(17)},
    }
    response, _ = sent(api, path, input=[message("user", "Hello"), output], **more)
    assert response["status"] == "completed"
    assert {name: response[name] for name in more} == more
