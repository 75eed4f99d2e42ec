"""The offline model as the providers' own SDKs read it, through the relay on a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

FIRST = "Hey! Who are you and what can you do?"
SECOND = "What did I just ask you?"
TURN_1 = f'[offline] Turn 1. You said: "{FIRST}"'
TURN_2 = f'[offline] Turn 2. You said: "{SECOND}" Before that: "{FIRST}"'
CALL = 'call get_weather {"city": "Paris"}'
TOLD = f'[offline] Turn 1. You said: "{CALL}" Tool get_weather answered: "rainy"'
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@pytest.fixture
async def relay(open_relay: Callable[..., AbstractAsyncContextManager[Any]]) -> AsyncIterator[Any]:
    async with open_relay("offline") as relay:
        yield relay


@pytest.fixture
async def anthropic(relay: Any) -> AsyncIterator[AsyncAnthropic]:
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(
        base_url=f"{relay.url}/anthropic", api_key=relay.token, max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def openai(relay: Any) -> AsyncIterator[AsyncOpenAI]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(
        base_url=f"{relay.url}/openai", api_key=relay.token, max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def gemini(relay: Any) -> AsyncIterator[Any]:
    from google.genai import Client, types

    options = types.HttpOptions(base_url=f"{relay.url}/gemini", api_version="")
    async with Client(api_key=relay.token, http_options=options).aio as client:
        yield client


async def test_anthropic_plain_and_second_turn(anthropic: AsyncAnthropic) -> None:
    first = await anthropic.messages.create(
        model="claude-x", max_tokens=99, messages=[{"role": "user", "content": FIRST}]
    )
    second = await anthropic.messages.create(
        model="claude-x",
        max_tokens=99,
        messages=[
            {"role": "user", "content": FIRST},
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": SECOND},
        ],
    )

    assert [block.text for block in (*first.content, *second.content)] == [
        TURN_1,
        TURN_2,
    ]  # they are texts
    assert (first.model, first.stop_reason) == ("claude-x", "end_turn")
    assert first.usage.output_tokens > 0


async def test_anthropic_streamed(anthropic: AsyncAnthropic) -> None:
    async with anthropic.messages.stream(
        model="claude-x", max_tokens=99, messages=[{"role": "user", "content": FIRST}]
    ) as stream:
        texts = [text async for text in stream.text_stream]
        message = await stream.get_final_message()

    assert "".join(texts) == TURN_1
    assert len(texts) > 2
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_anthropic_tool_round_trip(anthropic: AsyncAnthropic, is_streamed: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": CALL}]
    wish: dict[str, Any] = {
        "model": "claude-x",
        "max_tokens": 99,
        "messages": messages,
        "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
    }
    if is_streamed:
        async with anthropic.messages.stream(**wish) as stream:
            asked = await stream.get_final_message()
    else:
        asked = await anthropic.messages.create(**wish)
    (block,) = asked.content
    assert block.type == "tool_use"
    assert (block.name, block.input, asked.stop_reason) == (
        "get_weather",
        {"city": "Paris"},
        "tool_use",
    )
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "rainy"}
    messages += [
        {
            "role": "assistant",
            "content": [block.model_dump(include={"type", "id", "name", "input"})],
        },
        {"role": "user", "content": [result]},
    ]
    told = await anthropic.messages.create(**wish)

    assert told.content[0].text == TOLD


async def test_errors_cross_the_agent_as_a_providers_do(anthropic: AsyncAnthropic) -> None:
    from anthropic import BadRequestError

    with pytest.raises(BadRequestError, match="relay-failure-"):
        await anthropic.models.list()
    with pytest.raises(BadRequestError, match="relay-failure-"):
        await anthropic.messages.create(model="x", max_tokens=1, messages=[None])  # on purpose


async def test_openai_responses_plain_and_second_turn(openai: AsyncOpenAI) -> None:
    first = await openai.responses.create(model="gpt-x", input=FIRST)
    history: Any = [
        {"role": "user", "content": FIRST},
        *first.output,
        {"role": "user", "content": SECOND},
    ]
    second = await openai.responses.create(model="gpt-x", input=history)

    assert [first.output_text, second.output_text] == [TURN_1, TURN_2]
    assert (first.model, first.status) == ("gpt-x", "completed")
    assert first.usage is not None
    assert first.usage.output_tokens > 0


async def test_openai_responses_streamed(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(model="gpt-x", input=FIRST) as stream:
        deltas = [e.delta async for e in stream if e.type == "response.output_text.delta"]
        final = await stream.get_final_response()

    assert "".join(deltas) == final.output_text == TURN_1
    assert len(deltas) > 2


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_openai_responses_tool_round_trip(openai: AsyncOpenAI, is_streamed: bool) -> None:
    wish: dict[str, Any] = {
        "model": "gpt-x",
        "tools": [{"type": "function", "name": "get_weather", "parameters": SCHEMA}],
    }
    history: list[Any] = [{"role": "user", "content": CALL}]
    if is_streamed:
        async with openai.responses.stream(input=history, **wish) as stream:
            asked: Any = await stream.get_final_response()
    else:
        asked = await openai.responses.create(input=history, **wish)
    (call,) = asked.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert json.loads(call.arguments) == {"city": "Paris"}
    history += [
        {
            "type": "function_call",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": call.arguments,
        },
        {"type": "function_call_output", "call_id": call.call_id, "output": "rainy"},
    ]
    told = await openai.responses.create(input=history, **wish)

    assert told.output_text == TOLD


async def test_openai_chat_plain_and_second_turn(openai: AsyncOpenAI) -> None:
    first = await openai.chat.completions.create(
        model="gpt-x", messages=[{"role": "user", "content": FIRST}]
    )
    second = await openai.chat.completions.create(
        model="gpt-x",
        messages=[
            {"role": "user", "content": FIRST},
            {"role": "assistant", "content": first.choices[0].message.content},
            {"role": "user", "content": SECOND},
        ],
    )

    assert first.choices[0].message.content == TURN_1
    assert second.choices[0].message.content == TURN_2
    assert first.choices[0].finish_reason == "stop"


async def test_openai_chat_streamed(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.stream(
        model="gpt-x",
        messages=[{"role": "user", "content": FIRST}],
        stream_options={"include_usage": True},
    ) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()

    assert "".join(deltas) == final.choices[0].message.content == TURN_1
    assert len(deltas) > 2
    assert final.usage is not None


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_openai_chat_tool_round_trip(openai: AsyncOpenAI, is_streamed: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": CALL}]
    function = {"name": "get_weather", "parameters": SCHEMA}
    wish: dict[str, Any] = {
        "model": "gpt-x",
        "messages": messages,
        "tools": [{"type": "function", "function": function}],
    }
    if is_streamed:
        async with openai.chat.completions.stream(**wish) as stream:
            asked: Any = await stream.get_final_completion()
    else:
        asked = await openai.chat.completions.create(**wish)
    assert asked.choices[0].finish_reason == "tool_calls"
    (call,) = asked.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    kept = {
        "id": call.id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": call.function.arguments},
    }
    messages += [
        {"role": "assistant", "tool_calls": [kept]},
        {"role": "tool", "tool_call_id": call.id, "content": "rainy"},
    ]
    told = await openai.chat.completions.create(**wish)

    assert told.choices[0].message.content == TOLD


async def test_openai_embeddings_are_the_same_every_time(openai: AsyncOpenAI) -> None:
    # The SDK asks for base64 by itself.
    one, again = [
        await openai.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        for _ in range(2)
    ]

    assert [each.embedding for each in one.data] == [each.embedding for each in again.data]
    assert len(one.data[0].embedding) == 64


async def test_openai_errors_are_its_own(relay: Any) -> None:
    from openai import AsyncOpenAI, AuthenticationError

    async with AsyncOpenAI(
        base_url=f"{relay.url}/openai", api_key="wrong", max_retries=0
    ) as client:
        with pytest.raises(AuthenticationError, match="Invalid relay token"):
            await client.responses.create(model="gpt-x", input="Hi")


async def test_gemini_plain_and_second_turn(gemini: Any) -> None:
    from google.genai import types

    chat = gemini.chats.create(model="gemini-x")
    first = await chat.send_message(FIRST)
    second = await chat.send_message(SECOND)

    assert [first.text, second.text] == [TURN_1, TURN_2]
    assert first.candidates[0].finish_reason == types.FinishReason.STOP
    assert first.model_version == "gemini-x"
    assert first.usage_metadata.candidates_token_count > 0


async def test_gemini_streamed(gemini: Any) -> None:
    stream = await gemini.models.generate_content_stream(model="gemini-x", contents=FIRST)
    texts = [chunk.text async for chunk in stream]

    assert "".join(texts) == TURN_1
    assert len(texts) > 2


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_gemini_tool_round_trip(gemini: Any, is_streamed: bool) -> None:
    from google.genai import types

    declared = types.FunctionDeclaration(name="get_weather", parameters_json_schema=SCHEMA)
    wish = {
        "model": "gemini-x",
        "config": types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=[declared])],
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        ),
    }
    contents = [types.Content(role="user", parts=[types.Part(text=CALL)])]
    if is_streamed:
        stream = await gemini.models.generate_content_stream(contents=contents, **wish)
        (asked,) = [chunk async for chunk in stream]
    else:
        asked = await gemini.models.generate_content(contents=contents, **wish)
    (call,) = asked.function_calls
    assert (call.name, call.args) == ("get_weather", {"city": "Paris"})
    contents += [
        asked.candidates[0].content,
        types.Content(
            role="user",
            parts=[
                types.Part.from_function_response(name="get_weather", response={"result": "rainy"})
            ],
        ),
    ]
    told = await gemini.models.generate_content(contents=contents, **wish)

    assert told.text == TOLD


async def test_a_limit_of_tokens_ends_an_answer_as_each_sdk_knows_it(
    anthropic: AsyncAnthropic, openai: AsyncOpenAI, gemini: Any
) -> None:
    from google.genai import types

    said: Any = [{"role": "user", "content": FIRST}]
    message = await anthropic.messages.create(model="claude-x", max_tokens=3, messages=said)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)
    chat = await openai.chat.completions.create(model="gpt-x", max_tokens=3, messages=said)
    assert (chat.choices[0].finish_reason, chat.choices[0].message.content) == (
        "length", TURN_1[:12],
    )  # fmt: skip
    asked: dict[str, Any] = {"model": "gpt-x", "input": FIRST, "max_output_tokens": 3}
    async with openai.responses.stream(**asked) as stream:
        events = [event async for event in stream]
    last = events[-1]
    assert last.type == "response.incomplete"
    for response in (last.response, await openai.responses.create(**asked)):
        assert (response.status, response.output_text) == ("incomplete", TURN_1[:12])
        assert response.incomplete_details
        assert response.incomplete_details.reason == "max_output_tokens"
    config = types.GenerateContentConfig(max_output_tokens=3)
    told = await gemini.models.generate_content(model="g", contents=FIRST, config=config)
    assert told.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
