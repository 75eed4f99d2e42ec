"""Messages in the OpenAI Responses format. Most of these call a model."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.client import MODEL, responses_path, text_of
from tests.conformance.rows import every_row
from tests.conformance.shapes import answered, invalid, refused

if TYPE_CHECKING:
    from tests.conformance.client import Client

costs = pytest.mark.costs

QUESTION = "Which word did I ask you to remember? Repeat it exactly."
SESSIONS = ("project-alpha", "Project-Alpha", "user@example.com", "a/b", "\u00fcber \U0001f99e")


def check_response(response: dict[str, Any], model: str = MODEL) -> None:
    """Fails unless the answer is completed and has text."""
    assert response["id"].startswith("resp_")
    assert (response["object"], response["status"]) == ("response", "completed")
    assert response["model"] == model
    messages = [item for item in response["output"] if item["type"] == "message"]
    assert messages
    assert {item["role"] for item in messages} == {"assistant"}
    assert text_of(response)
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@costs
def test_a_message_is_answered(api: Client, agent: str) -> None:
    check_response(answered(api.message(agent, input="Say hello."), 200))


@costs
def test_a_message_may_be_a_list_of_items(api: Client, agent: str) -> None:
    item = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Say hello."}],
    }
    check_response(answered(api.message(agent, "items", input=[item]), 200))


@costs
def test_other_members_of_the_format_are_accepted(api: Client, agent: str) -> None:
    answer = api.message(
        agent, "more", input="Say hello.", instructions="Be brief.", max_output_tokens=512,
        metadata={"ticket": "42"}, user="someone", store=True, temperature=0.5,
    )  # fmt: skip
    check_response(answered(answer, 200))


@costs
def test_the_main_conversation_remembers_and_is_called_main(api: Client, agent: str) -> None:
    word = f"word{secrets.token_hex(3)}"
    api.say(agent, f"Remember this word: {word}")
    assert word in api.say(agent, QUESTION, "main")


@costs
def test_a_conversation_survives_stop_and_start(api: Client, agent: str) -> None:
    word = f"word{secrets.token_hex(3)}"
    api.say(agent, f"Remember this word: {word}", "outlives")
    answered(api.post(f"instances/{agent}/stop"), 200)
    answered(api.post(f"instances/{agent}/start"), 200)
    told = api.say(agent, QUESTION, "outlives")
    assert word in told


@costs
def test_conversations_are_isolated(api: Client, agent: str) -> None:
    words = {session: f"word{secrets.token_hex(3)}" for session in SESSIONS}
    for session, word in words.items():
        api.say(agent, f"Remember this word: {word}", session)
    with every_row() as row:
        for session, own in words.items():
            with row(session):
                told = api.say(agent, QUESTION, session)
                assert [word for word in words.values() if word in told] == [own]


@costs
def test_an_answer_is_streamed(api: Client, agent: str) -> None:
    events = list(api.events(agent, "Say hello.", "streamed"))
    types = [event["type"] for event in events]
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    check_response(events[-1]["response"])
    assert text == text_of(events[-1]["response"])


@costs
def test_each_message_may_name_another_model(api: Client, agent: str) -> None:
    providers = answered(api.get("organization"), 200)["model_providers"]
    if "openai" not in providers:
        pytest.skip("The organization has no key for a second model provider.")
    word = f"word{secrets.token_hex(3)}"
    api.say(agent, f"Remember this word: {word}", "models")
    response = answered(api.message(agent, "models", input=QUESTION, model="gpt-4o-mini"), 200)
    check_response(response, "gpt-4o-mini")
    assert word in text_of(response)


def test_a_message_needs_a_model_and_an_input(api: Client, agent: str) -> None:
    body = {"model": MODEL, "input": "Hello"}
    with every_row() as row:
        for path in (responses_path(agent), responses_path(agent, "a-session")):
            for missing in body:
                with row(f"{path} without {missing}"):
                    lacking = {name: value for name, value in body.items() if name != missing}
                    problems = invalid(api.post(path, json=lacking), "body", missing)
                    assert "missing" in [each["type"] for each in problems]


def test_an_unknown_model_is_refused(api: Client, agent: str) -> None:
    answer = api.message(agent, input="Hello", model="no-such-model")
    assert 400 <= answer.status_code < 500
    if answer.status_code != 422:
        refused(answer, answer.status_code)
