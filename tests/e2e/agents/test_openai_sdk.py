"""The official OpenAI SDK with nothing changed but its base URL."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openai import OpenAI
    from openai.types.responses import Response, ResponseFunctionToolCall

    from tests.e2e.serving import ServerProcess

    Connect = Callable[[str], OpenAI]

pytestmark = pytest.mark.docker

MODELS = ["claude-sonnet-4-20250514", "gpt-4o", "gemini-2.0-flash"]
PLACES = ["", "/session/from the sdk"]
PAIRS = [(model, PLACES[row % 2]) for row, model in enumerate(MODELS)]
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture
def connect(server: ServerProcess, instance: str) -> Iterator[Connect]:
    """The SDK's client for the agent's main conversation, or for the one below a path."""
    from openai import OpenAI

    with ExitStack() as stack:
        yield lambda place: stack.enter_context(
            OpenAI(
                base_url=f"{server.base_url}/instances/{instance}{place}",
                api_key=server.key,
                max_retries=0,
                timeout=60,
            )
        )


def call_in(response: Response) -> ResponseFunctionToolCall:
    (call,) = [item for item in response.output if item.type == "function_call"]
    return call


def result_of(call: ResponseFunctionToolCall) -> Any:
    return {"type": "function_call_output", "call_id": call.call_id, "output": "18 °C, rain"}


@pytest.mark.parametrize(("model", "place"), PAIRS)
def test_create_answers_with_the_model_that_was_asked_for(
    connect: Connect, model: str, place: str
) -> None:
    response = connect(place).responses.create(model=model, input=f"Hello, {model}!")
    assert (response.status, response.model) == ("completed", model)
    assert f"Hello, {model}!" in response.output_text
    assert response.usage is not None
    assert response.usage.total_tokens > 0


@pytest.mark.parametrize(("model", "place"), PAIRS)
def test_a_streams_deltas_add_up_to_its_final_text(
    connect: Connect, model: str, place: str
) -> None:
    with connect(place).responses.stream(model=model, input="Tell me a story.") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "Tell me a story." in final.output_text
    assert "".join(deltas) == final.output_text
    assert final.model == model


@pytest.mark.parametrize(("model", "place"), PAIRS)
def test_a_required_tool_is_called_and_its_result_comes_back_by_response_id(
    connect: Connect, model: str, place: str
) -> None:
    client = connect(place)
    asked = client.responses.create(
        model=model,
        input='How is the weather? {"city": "Lyon"}',
        tools=[WEATHER],
        tool_choice="required",
    )
    call = call_in(asked)
    assert (call.name, call.arguments.replace(" ", "")) == ("get_weather", '{"city":"Lyon"}')
    answered = client.responses.create(
        model=model, input=[result_of(call)], previous_response_id=asked.id, tools=[WEATHER]
    )
    assert "18 °C, rain" in answered.output_text


def test_a_streamed_tool_call_has_its_arguments_in_the_events(connect: Connect) -> None:
    client = connect("/session/streamed-tool")
    with client.responses.stream(
        model="gpt-4o", input='call get_weather {"city":"Rome"}', tools=[WEATHER]
    ) as stream:
        deltas = [
            event.delta
            for event in stream
            if event.type == "response.function_call_arguments.delta"
        ]
        final = stream.get_final_response()
    call = call_in(final)
    assert call.arguments.replace(" ", "") == '{"city":"Rome"}'
    assert "".join(deltas) == call.arguments
