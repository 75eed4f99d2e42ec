"""Messages in every form that the Responses API knows, to real agents."""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any, Literal

import pytest
from openresponses_types import types as spec
from pydantic import BaseModel

from tests.e2e.api import Api, responses_path, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai import OpenAI

    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

pytestmark = [pytest.mark.docker, pytest.mark.quick]

MODELS = {
    "anthropic": "claude-sonnet-4-20250514",
    "openai": "gpt-4o",
    "gemini": "gemini-2.0-flash",
}
CHOICES: list[Any] = [
    "required",
    {"type": "function", "name": "get_weather"},
    {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "get_weather"}],
    },
]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
IMAGE = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "high"}
PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R
/Resources<</Font<</F1 5 0 R>>>>>>endobj
4 0 obj<</Length 45>>stream
BT /F1 24 Tf 20 100 Td (Zebra in a PDF) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R>>"""
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Node(BaseModel):
    """A tree, as a person would model one."""

    name: str
    kind: Literal["leaf", "branch"]
    weight: float | None
    kids: list[Node]


def file(name: str, content: bytes) -> dict[str, Any]:
    return {
        "type": "input_file",
        "filename": name,
        "file_data": base64.b64encode(content).decode(),
    }


def function(name: str) -> Any:
    return {"type": "function", "name": name, "parameters": PARAMETERS}


def sent(api: Api, instance_id: str, session: str | None = None, **members: Any) -> dict[str, Any]:
    """The answer to a message in a session (a new one, if it is not named), judged."""
    body = {"model": MODELS["anthropic"], "input": "Hi"} | members
    path = responses_path(instance_id, session or uuid.uuid4().hex)
    answer = api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    spec.ResponseResource.model_validate(whole)
    return whole


@pytest.fixture
def agent(server: ServerProcess, instance: str) -> Iterator[OpenAI]:
    """OpenAI's own client, which takes nothing that is not as its types say."""
    from openai import OpenAI

    with OpenAI(
        base_url=f"{server.base_url}/instances/{instance}/session/{uuid.uuid4().hex}",
        api_key=server.key,
        max_retries=0,
        timeout=60,
        _strict_response_validation=True,
    ) as agent:
        yield agent


# Images and files


@pytest.mark.parametrize("provider", MODELS)
def test_images_and_files_reach_the_model(
    keyed: Api, instance: str, stand_in: StandIn, provider: str
) -> None:
    parts = [
        {"type": "input_text", "text": "Look."},
        IMAGE,
        file("a.py", "animal = 'Ölzweig'".encode()),
        file("a.pdf", PDF),
    ]
    stand_in.requests.clear()
    earlier = {"role": "user", "content": [{"type": "input_text", "text": "Before:"}, IMAGE]}
    items = [earlier, {"role": "user", "content": parts}]
    sent(keyed, instance, model=MODELS[provider], input=items)
    (recorded,) = stand_in.requests
    assert recorded.body.count(PIXEL) == 2
    assert "Ölzweig" in json.loads(f'"{json.dumps(recorded.body)[1:-1]}"')
    assert "Zebra in a PDF" in recorded


def test_an_image_that_a_tool_gave_back_reaches_the_model(
    keyed: Api, instance: str, stand_in: StandIn
) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": [IMAGE]}
    stand_in.requests.clear()
    sent(keyed, instance, input=[call, output])
    assert PIXEL in stand_in.requests[0]


# Items


def test_every_kind_of_item_is_taken(api: Api, instance: str) -> None:
    items = [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"type": "message", "role": "user", "content": "One."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "item_reference", "id": "msg_1"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "21"},
        {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "a.txt"},
        {"role": "user", "content": [{"type": "input_text", "text": "Two."}]},
    ]
    answer = sent(api, instance, input=items)
    assert text_of(answer).startswith('[offline] Turn 2. You said: "Two." Before that: "One."')


def test_every_member_of_a_request_is_taken_and_told(api: Api, instance: str) -> None:
    told: dict[str, Any] = {
        "instructions": "Be kind.", "max_output_tokens": 500, "max_tool_calls": 3,
        "metadata": {"a": "b"}, "parallel_tool_calls": False, "prompt_cache_key": "k",
        "previous_response_id": "resp_of_somebody_else", "safety_identifier": "s",
        "service_tier": "flex", "store": False, "temperature": 0.5, "top_p": 0.5,
        "truncation": "auto",
    }  # fmt: skip
    untold: dict[str, Any] = {
        "include": ["reasoning.encrypted_content"], "stream_options": {"include_obfuscation": True},
        "top_logprobs": 3, "user": "u", "reasoning": {"effort": "minimal", "summary": "auto"},
        "text": {"verbosity": "low"}, "background": False, "something_new": {"x": 1},
    }  # fmt: skip
    answer = sent(api, instance, **told, **untold)
    assert {key: answer[key] for key in told} == told


# Functions


@pytest.mark.parametrize(("provider", "choice"), list(zip(MODELS, CHOICES, strict=True)))
def test_a_function_that_has_to_be_called_is_called(
    api: Api, instance: str, provider: str, choice: Any
) -> None:
    tools = [function("get_weather"), {"type": "web_search"}]
    answer = sent(api, instance, model=MODELS[provider], tools=tools, tool_choice=choice)
    assert [(each["type"], each["name"]) for each in answer["output"]] == [
        ("function_call", "get_weather")
    ]


@pytest.mark.parametrize("provider", MODELS)
def test_a_choice_is_made_in_the_providers_own_way(
    keyed: Api, instance: str, stand_in: StandIn, provider: str
) -> None:
    body = {
        "model": MODELS[provider],
        "input": "Hi",
        "tools": [function("get_weather")],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    stand_in.requests.clear()
    answer = keyed.post(responses_path(instance, "choices"), json=body)
    call = json.loads(stand_in.requests[0].body)
    assert {
        "anthropic": {"type": "any", "disable_parallel_tool_use": True},
        "openai": "required",
        "gemini": {"functionCallingConfig": {"mode": "ANY"}},
    }[provider] == call.get("tool_choice", call.get("toolConfig"))
    # The stand-in calls nothing, whatever it is asked. No client must try such a thing again.
    assert answer.status_code == 400
    assert "none of the required functions" in answer.json()["detail"]
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize("name", ["read", "web_search", "final_answer"])
def test_a_function_may_be_called_like_one_of_the_agents_own(
    api: Api, instance: str, name: str
) -> None:
    choice = {"type": "function", "name": name}
    answer = sent(api, instance, tools=[function(name)], tool_choice=choice)
    assert [each["name"] for each in answer["output"]] == [name]


def test_a_call_alone_is_streamed_without_a_message(agent: OpenAI) -> None:
    tools = [function("get_weather")]
    with agent.responses.stream(
        model=MODELS["openai"], input='call get_weather {"city": "Oslo"}', tools=tools
    ) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [item.type for item in answer.output] == ["function_call"]


# Structured outputs


@pytest.mark.usefixtures("prompt_texts")
@pytest.mark.parametrize("provider", MODELS)
def test_a_structured_answer_is_parsed_and_the_conversation_goes_on(
    agent: OpenAI, provider: str
) -> None:
    model = MODELS[provider]
    answer = agent.responses.parse(model=model, input="Give me a tree.", text_format=Node)
    assert answer.output_parsed == Node(name="text", kind="leaf", weight=1, kids=[])
    assert [item.type for item in answer.output] == ["message"]
    with agent.responses.stream(model=model, input="Another.", text_format=Node) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        streamed = stream.get_final_response()
    assert "".join(deltas) == streamed.output_text
    assert streamed.output_parsed == answer.output_parsed
    anything = agent.responses.create(
        model=model, input="Now anything.", text={"format": {"type": "json_object"}}
    )
    assert 'Before that: "Another."' in json.loads(anything.output_text)["answer"]
    after = agent.responses.create(model=model, input="And in words?")
    assert after.output_text == (
        '[offline] Turn 4. You said: "And in words?" Before that: "Now anything."'
    )


def test_an_agent_may_use_its_own_tools_before_a_structured_answer(agent: OpenAI) -> None:
    text = 'call exec {"command": "echo made > made-before-answering.txt; cat made-*.txt"}'
    answer = agent.responses.parse(model=MODELS["openai"], input=text, text_format=Node)
    assert answer.output_parsed is not None
    seen = agent.responses.create(
        model=MODELS["openai"], input='call exec {"command": "cat made-before-answering.txt"}'
    )
    assert '"made' in seen.output_text


def test_a_clients_function_comes_before_a_structured_answer(agent: OpenAI) -> None:
    model, tools = MODELS["anthropic"], [function("get_weather")]
    text = 'call get_weather {"city": "Oslo"}'
    called = agent.responses.parse(model=model, input=text, tools=tools, text_format=Node)
    (call,) = called.output
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    answer = agent.responses.parse(model=model, input=[result], tools=tools, text_format=Node)
    assert answer.output_parsed is not None


# What is not available
