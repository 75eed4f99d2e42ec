"""LangChain's chat model of OpenAI, told to speak Responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_openai import ChatOpenAI

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"18 °C in {city}"


class Place(BaseModel):
    """A place."""

    city: str
    people: int


@pytest.fixture
def chat(server: ServerProcess, conversation: str) -> ChatOpenAI:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model="gpt-4o",
        base_url=conversation,
        api_key=SecretStr(server.key),
        use_responses_api=True,
        max_retries=0,
    )


def test_invoke_answers_with_words_and_usage(chat: ChatOpenAI) -> None:
    answer = chat.invoke("Hello!")
    assert answer.text == '[offline] Turn 1. You said: "Hello!"'
    assert answer.response_metadata["model_name"] == "gpt-4o"
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_a_streams_chunks_add_up(chat: ChatOpenAI) -> None:
    chunks = [chunk for chunk in chat.stream("Tell me a story.") if chunk.text]
    assert len(chunks) > 1
    text = "".join(chunk.text for chunk in chunks)
    assert text == '[offline] Turn 1. You said: "Tell me a story."'


@pytest.mark.usefixtures("prompt_texts")
def test_a_bound_tool_is_called_and_its_result_is_answered(chat: ChatOpenAI) -> None:
    from langchain_core.messages import HumanMessage
    from langchain_core.tools import tool

    weather = tool(get_weather)
    bound = chat.bind_tools([weather])
    history: list[BaseMessage] = [HumanMessage('call get_weather {"city": "Paris"}')]
    asked = bound.invoke(history)
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    history += [asked, weather.invoke(call)]
    assert 'Tool get_weather answered: "18 °C in Paris"' in bound.invoke(history).text


def test_a_conversation_goes_on_by_response_id(chat: ChatOpenAI) -> None:
    from langchain_core.messages import HumanMessage

    history: list[BaseMessage] = [HumanMessage("My name is Ada.")]
    by_id = chat.model_copy(update={"use_previous_response_id": True})
    history += [by_id.invoke(history), HumanMessage("What is my name?")]
    assert 'Before that: "My name is Ada."' in by_id.invoke(history).text


def test_structured_output_is_of_the_type_that_was_asked_for(chat: ChatOpenAI) -> None:
    typed = chat.with_structured_output(Place, method="json_schema")
    asked = 'Which place? {"city": "Oslo", "people": 700000}'
    assert typed.invoke(asked) == Place(city="Oslo", people=700_000)


def test_json_mode_gives_an_object(chat: ChatOpenAI) -> None:
    given = chat.with_structured_output(None, method="json_mode").invoke("Anything, as JSON.")
    assert isinstance(given, dict)
