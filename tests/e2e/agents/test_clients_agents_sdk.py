"""The OpenAI Agents SDK: its own loop of turns and tools, around our agent as its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Agent, RunResult, RunResultStreaming

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"18 °C in {city}"


async def run(agent: Agent[None], asked: Any, **more: Any) -> RunResult:
    from agents import RunConfig, Runner

    untraced = RunConfig(tracing_disabled=True)
    return await Runner.run(agent, asked, run_config=untraced, **more)


def run_streamed(agent: Agent[None], asked: str) -> RunResultStreaming:
    from agents import RunConfig, Runner

    untraced = RunConfig(tracing_disabled=True)
    return Runner.run_streamed(agent, asked, run_config=untraced)


class Place(BaseModel):
    city: str
    people: int


@pytest.fixture
async def agent(server: ServerProcess, conversation: str) -> AsyncIterator[Agent[None]]:
    """The SDK's agent, with instructions and a tool as people write them."""
    from agents import Agent, OpenAIResponsesModel, function_tool
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=conversation, api_key=server.key, max_retries=0) as client:
        yield Agent(
            name="Forecaster",
            instructions="You tell the weather.",
            model=OpenAIResponsesModel("gpt-4o", openai_client=client),
            tools=[function_tool(get_weather)],
        )


async def test_a_run_ends_with_the_agents_words_and_their_usage(agent: Agent[None]) -> None:
    ended = await run(agent, "Hello!")
    assert ended.final_output == '[offline] Turn 1. You said: "Hello!"'
    usage = ended.context_wrapper.usage
    assert usage.requests == 1
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0


async def test_a_streamed_run_has_the_words_in_its_events(agent: Agent[None]) -> None:
    from openai.types.responses import ResponseTextDeltaEvent

    running = run_streamed(agent, "Tell me a story.")
    deltas = [
        event.data.delta
        async for event in running.stream_events()
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
    ]
    assert len(deltas) > 1
    assert "".join(deltas) == running.final_output
    assert "Tell me a story." in running.final_output


@pytest.mark.usefixtures("prompt_texts")
async def test_a_function_tool_is_called_and_its_result_is_answered(agent: Agent[None]) -> None:
    ended = await run(agent, 'call get_weather {"city": "Paris"}')
    assert 'Tool get_weather answered: "18 °C in Paris"' in ended.final_output
    assert [item.type for item in ended.new_items] == [
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]


async def test_a_conversation_goes_on_by_response_id(agent: Agent[None]) -> None:
    first = await run(agent, "My name is Ada.")
    second = await run(agent, "What is my name?", previous_response_id=first.last_response_id)
    assert 'Before that: "My name is Ada."' in second.final_output


async def test_an_output_type_is_the_type_of_the_final_output(agent: Agent[None]) -> None:
    asked = 'Which place? {"city": "Oslo", "people": 700000}'
    typed = agent.clone(output_type=Place, tools=[])
    ended = await run(typed, asked)
    assert ended.final_output == Place(city="Oslo", people=700_000)
    streamed = run_streamed(typed, asked)
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == ended.final_output
