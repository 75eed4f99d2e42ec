"""The offline model through a real agent, as suites and clients meet it that know only the API."""

from __future__ import annotations

import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openresponses_types import types as spec

from chowder_local.relay.offline import openai_responses
from chowder_local.relay.offline.decision import client_functions
from tests.e2e.api import CLAUDE, Api, responses_path

pytestmark = pytest.mark.docker

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            }
        },
        "required": ["location"],
    },
}
TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}}
CALL = ("get_weather", {"location": "San Francisco"})


def said(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def asks_for_weather(*, stream: bool) -> dict[str, Any]:
    question = "What's the weather like in San Francisco?"
    return {"input": [said("user", question)], "tools": [WEATHER], "stream": stream}


COMPLIANCE: list[dict[str, Any]] = [
    {"input": [said("user", "Say hello in exactly 3 words.")]},
    {"input": [said("user", "Count from 1 to 5.")], "stream": True},
    {
        "input": [
            said("system", "You are a pirate. Always respond in pirate speak."),
            said("user", "Say hello."),
        ]
    },
    asks_for_weather(stream=False),
    asks_for_weather(stream=True),
    {
        "input": [
            said(
                "user",
                [
                    {
                        "type": "input_text",
                        "text": "What do you see in this image? Answer in one sentence.",
                    },
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                ],
            )
        ]
    },
    {
        "input": [
            said("user", "My name is Alice."),
            said("assistant", "Hello Alice! Nice to meet you. How can I help you today?"),
            said("user", "What is my name?"),
        ]
    },
]
"""What the compliance suite of Open Responses sends, all at once."""


def sent(api: Api, path: str, **asked: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The answer, and the events that it came in, each judged by its schema."""
    answer = api.post(path, json={"model": "gpt-4o-mini", "stream": False} | asked)
    assert answer.status_code == 200, answer.text
    events = []
    if asked.get("stream"):
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
        events = [json.loads(line) for line in lines if line.startswith("{")]
        for event in events:
            name = re.sub(r"[._]?([a-z]+)", lambda found: found[1].title(), event["type"])
            getattr(spec, f"{name}StreamingEvent").model_validate(event)
    response: dict[str, Any] = events[-1]["response"] if events else answer.json()
    spec.ResponseResource.model_validate(response)
    return response, events


def calls_in(response: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (item["name"], json.loads(item["arguments"]))
        for item in response["output"]
        if item["type"] == "function_call"
    ]


def text_in(response: dict[str, Any]) -> str:
    (message,) = response["output"]
    text: str = message["content"][0]["text"]
    return text


# Seven first turns at once, of an agent that has just booted.
@pytest.mark.slow
def test_the_compliance_suite_of_open_responses_passes_on_a_fresh_agent_without_egress(
    api: Api,
) -> None:
    fresh = api.created("fresh")
    local = f"{str(api.base_url).replace('/v1/', '/local/')}instances/{fresh}"
    changed = api.patch(local, json={"egress": "off"})
    assert changed.status_code == 200, changed.text
    api.until(fresh, "running")
    path = responses_path(fresh)
    with ThreadPoolExecutor(len(COMPLIANCE)) as pool:
        answers = list(pool.map(lambda asked: sent(api, path, **asked), COMPLIANCE))
    assert api.get(local).json()["egress_in_force"] == "off"
    assert api.delete(f"instances/{fresh}").status_code == 204
    for response, _ in answers:
        assert response["status"] == "completed", response
        assert response["output"]
    (plain, _), (streamed, events) = answers[3:5]
    assert calls_in(plain) == calls_in(streamed) == [CALL]
    kinds = [event["type"] for event in events if event.get("item", {}).get("type") != "message"]
    for kind in ("output_item.added", "function_call_arguments.delta",
                 "function_call_arguments.done", "output_item.done"):  # fmt: skip
        assert f"response.{kind}" in kinds


@pytest.fixture
def path(instance: str) -> str:
    """Where messages go to a conversation of the test's own."""
    return responses_path(instance, uuid.uuid4().hex)


@pytest.mark.parametrize(
    ("model", "stream"),
    [
        (CLAUDE, True),
        pytest.param(CLAUDE, False, marks=pytest.mark.slow),
        pytest.param("gpt-4o", True, marks=pytest.mark.slow),
        ("gpt-4o", False),
        pytest.param("gemini-2.0-flash", True, marks=pytest.mark.slow),
        pytest.param("gemini-2.0-flash", False, marks=pytest.mark.slow),
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
    latest = api.get(f"{local}instances/{instance}/exchanges").json()[0]
    request = api.get(f"{local}exchanges/{latest['id']}").json()["request"]
    conversation = openai_responses.read(request)
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
    response, _ = sent(api, path, input=[said("user", "Hello"), output], **more)
    assert response["status"] == "completed"
    assert {name: response[name] for name in more} == more
