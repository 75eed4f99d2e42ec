"""A user's test file: an agent of an order desk, offline, with replies that the tests choose."""

import json

import pytest
from openai import OpenAI


def test_the_agent_answers_with_what_its_tool_found(
    chowder_common_instance, chowder_session, chowder_replies
):
    chowder_replies.add(
        [
            {"call": "exec", "arguments": {"command": "echo 3 parcels"}},
            {"template": "There are {{ result }}."},
        ],
        text="how many",
    )
    reply = chowder_common_instance.say("How many are left?", chowder_session)
    assert reply == "There are 3 parcels."


def test_a_session_is_a_conversation_of_its_own(chowder_common_instance, chowder_session):
    url = chowder_common_instance.session_url(chowder_session)
    desk = OpenAI(base_url=url, api_key=chowder_common_instance.key)
    desk.responses.create(model="gpt-4o", input="I am Ada.")
    answer = desk.responses.create(model="gpt-4o", input="Who am I?")
    assert 'Before that: "I am Ada."' in answer.output_text


def test_the_model_is_asked_with_the_persons_words(
    chowder_common_instance, chowder_session, chowder_replies
):
    chowder_replies.add("On its way.", regex=r"order (\d+)")
    reply = chowder_common_instance.say("Where is order 7?", chowder_session)
    assert reply == "On its way."
    assert "order 7" in json.dumps(chowder_common_instance.model_calls()[-1]["request"])


@pytest.mark.chowder_recording("recordings/greeting")
def test_a_recording_answers_without_any_model(chowder_common_instance, chowder_session):
    reply = chowder_common_instance.say("Good morning", chowder_session, model="gpt-4o")
    assert "Good morning" in reply


@pytest.mark.chowder_replies("replies.yaml")
def test_the_replies_of_a_file_answer(chowder_common_instance, chowder_session):
    reply = chowder_common_instance.say("Where is order 7?", chowder_session)
    assert reply == "Order 7 is on its way."
