"""The OpenAI Agents SDK: its own loop of turns and tools, around our agent as its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

# Traces would go to the SDK's own vendor.
UNTRACED = RunConfig(tracing_disabled=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@function_tool  # type: ignore[untyped-decorator]  # mypy skips SDKs
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"18 °C in {city}"


class Place(BaseModel):
    city: str
    people: int


@pytest.fixture
async def agent(server: ServerProcess, conversation: str) -> AsyncIterator[Agent[None]]:
    """The SDK's agent, with instructions and a tool as people write them."""
    async with AsyncOpenAI(base_url=conversation, api_key=server.key, max_retries=0) as client:
        yield Agent(
            name="Forecaster",
            instructions="You tell the weather.",
            model=OpenAIResponsesModel("gpt-4o", openai_client=client),
            tools=[get_weather],
        )


async def test_a_run_ends_with_the_agents_words_and_their_usage(agent: Agent[None]) -> None:
    run = await Runner.run(agent, "Hello!", run_config=UNTRACED)
    assert run.final_output == '[offline] Turn 1. You said: "Hello!"'
    usage = run.context_wrapper.usage
    assert usage.requests == 1
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0


async def test_a_streamed_run_has_the_words_in_its_events(agent: Agent[None]) -> None:
    run = Runner.run_streamed(agent, "Tell me a story.", run_config=UNTRACED)
    deltas = [
        event.data.delta
        async for event in run.stream_events()
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
    ]
    assert len(deltas) > 1
    assert "".join(deltas) == run.final_output
    assert "Tell me a story." in run.final_output


async def test_a_function_tool_is_called_and_its_result_is_answered(agent: Agent[None]) -> None:
    run = await Runner.run(agent, 'call get_weather {"city": "Paris"}', run_config=UNTRACED)
    assert 'Tool get_weather answered: "18 °C in Paris"' in run.final_output
    assert [item.type for item in run.new_items] == [
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]


async def test_a_function_tool_is_called_in_a_streamed_run(agent: Agent[None]) -> None:
    run = Runner.run_streamed(agent, 'call get_weather {"city": "Rome"}', run_config=UNTRACED)
    names = [
        event.name async for event in run.stream_events() if event.type == "run_item_stream_event"
    ]
    assert 'Tool get_weather answered: "18 °C in Rome"' in run.final_output
    assert {"tool_called", "tool_output"} <= set(names)


async def test_a_tools_result_goes_back_by_response_id(agent: Agent[None]) -> None:
    run = await Runner.run(
        agent,
        'call get_weather {"city": "Nice"}',
        auto_previous_response_id=True,
        run_config=UNTRACED,
    )
    # The third message would be the question again, had the SDK sent its whole history.
    assert run.final_output.startswith("[offline] Turn 1.")
    assert 'Tool get_weather answered: "18 °C in Nice"' in run.final_output


async def test_a_conversation_goes_on_by_response_id(agent: Agent[None]) -> None:
    first = await Runner.run(agent, "My name is Ada.", run_config=UNTRACED)
    second = await Runner.run(
        agent,
        "What is my name?",
        previous_response_id=first.last_response_id,
        run_config=UNTRACED,
    )
    assert 'Before that: "My name is Ada."' in second.final_output


async def test_a_conversation_goes_on_by_the_runs_own_history(agent: Agent[None]) -> None:
    first = await Runner.run(agent, "My name is Ada.", run_config=UNTRACED)
    again = {"role": "user", "content": "What is my name?"}
    second = await Runner.run(
        agent,
        [*first.to_input_list(), again],
        run_config=UNTRACED,
    )
    assert 'Before that: "My name is Ada."' in second.final_output


async def test_an_output_type_is_the_type_of_the_final_output(agent: Agent[None]) -> None:
    asked = 'Which place? {"city": "Oslo", "people": 700000}'
    typed = agent.clone(output_type=Place, tools=[])
    run = await Runner.run(typed, asked, run_config=UNTRACED)
    assert run.final_output == Place(city="Oslo", people=700_000)
    streamed = Runner.run_streamed(typed, asked, run_config=UNTRACED)
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == run.final_output


async def test_an_output_type_comes_after_a_tools_result(agent: Agent[None]) -> None:
    typed = agent.clone(output_type=Place)
    run = await Runner.run(typed, 'call get_weather {"city": "Paris"}', run_config=UNTRACED)
    assert "tool_call_output_item" in [item.type for item in run.new_items]
    assert isinstance(run.final_output, Place)
