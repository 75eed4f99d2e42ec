"""The SDKs for JavaScript, `openai` and Vercel's `ai`, in programs as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.node import Programs
    from tests.e2e.serving import ServerProcess

    Run = Callable[[str], dict[str, Any]]

pytestmark = pytest.mark.docker

OSLO = {"city": "Oslo", "people": 700_000}


@pytest.fixture
def run(server: ServerProcess, conversation: str, javascript: Programs) -> Run:
    """Runs a program for a conversation of the test's own, and gives what it gave back."""
    return lambda program: javascript.run(program, conversation, server.key)


def test_openai_answers_streams_and_goes_on(run: Run) -> None:
    seen = run("openai-answers.mjs")
    first, streamed = seen["first"], seen["streamed"]
    assert first["text"] == '[offline] Turn 1. You said: "My name is Ada."'
    assert first["model"] == "gpt-4o"
    assert 'Before that: "My name is Ada."' in streamed["text"]
    assert len(streamed["deltas"]) > 1
    assert "".join(streamed["deltas"]) == streamed["text"]
    for usage in (first["usage"], streamed["usage"]):
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    assert seen["types"][0] == "response.created"
    assert seen["types"][-1] == "response.completed"
    assert 'Before that: "Go on."' in seen["last"]


@pytest.mark.usefixtures("prompt_texts")
def test_openai_uses_a_tool_whole_and_streamed(run: Run) -> None:
    seen = run("openai-tools.mjs")
    assert 'Tool get_weather answered: "18 °C in Paris"' in seen["whole"]
    assert 'Tool get_weather answered: "18 °C in Rome"' in seen["streamed"]
    assert seen["deltas"].replace(" ", "") == '{"city":"Rome"}'


def test_vercel_answers_streams_and_goes_on(run: Run) -> None:
    seen = run("vercel-answers.mjs")
    first, streamed = seen["first"], seen["streamed"]
    assert first["text"] == '[offline] Turn 1. You said: "My name is Ada."'
    assert first["model"] == "gpt-4o"
    assert len(streamed["deltas"]) > 1
    assert 'Before that: "My name is Ada."' in "".join(streamed["deltas"])
    assert streamed["finish"] == "stop"
    for usage in (first["usage"], streamed["usage"]):
        assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"] > 0
    assert 'Before that: "Tell me a story."' in seen["byId"]
    assert 'Before that: "My name is Bob."' in seen["byHistory"]


@pytest.mark.usefixtures("prompt_texts")
def test_vercel_uses_a_tool_in_its_steps_whole_and_streamed(run: Run) -> None:
    seen = run("vercel-tools.mjs")
    assert seen["whole"]["steps"] == 2
    assert 'Tool get_weather answered: "18 °C in Paris"' in seen["whole"]["text"]
    assert 'Tool get_weather answered: "18 °C in Rome"' in seen["streamed"]["text"]
    types = seen["streamed"]["types"]
    # No empty message stands before the call, as none does with the SDK's own vendor.
    assert types.index("tool-call") < types.index("tool-result") < types.index("text-start")
    assert seen["demanded"] == [["get_weather", {"city": "Nice"}]]


def test_openai_parses_an_answer_that_fits_a_schema(run: Run) -> None:
    seen = run("openai-structured.mjs")
    assert seen["whole"] == seen["streamed"] == OSLO


def test_vercel_gets_an_object_that_fits_a_schema_also_beside_a_tool(run: Run) -> None:
    seen = run("vercel-structured.mjs")
    assert seen["whole"] == seen["streamed"] == OSLO
    assert seen["withTool"] == {"calls": 1, "city": "string"}
