"""Messages in the OpenAI Responses format. Most of these call a model."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.conformance.client import MODEL, media_type_of, responses_path, text_of
from chowder_local.conformance.drift import answered, fits, refused, rejected
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.drift import Judge

costs = pytest.mark.costs

QUESTION = "Which word did I ask you to remember? Repeat it exactly."
SESSIONS = ("project-alpha", "Project-Alpha", "user@example.com", "a/b", "\u00fcber \U0001f99e")
TOO_MANY = 429


def check_response(response: dict[str, Any], model: str = MODEL) -> None:
    """Fails unless the answer has text and is of the model."""
    assert response["id"].startswith("resp_")
    assert response["model"] == model
    assert text_of(response)
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@costs
def test_a_message_is_answered_once_for_its_idempotency_key(
    api: ContractClient, agent: str, judge: Judge
) -> None:
    headers = {"Idempotency-Key": f"conformance-{secrets.token_hex(8)}"}
    response = answered(api.message(agent, input="Say hello.", headers=headers))
    check_response(response)
    judge("response-members", response)
    again = api.message(agent, input="Say hello.", headers=headers)
    check_response(answered(again))
    judge("idempotency", again.headers.get("Idempotent-Replayed"))


@costs
def test_a_message_may_be_a_list_of_items(api: ContractClient, agent: str) -> None:
    item = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Say hello."}],
    }
    check_response(answered(api.message(agent, "items", input=[item])))


@costs
def test_other_members_of_the_format_are_accepted(api: ContractClient, agent: str) -> None:
    answer = api.message(
        agent, "more", input="Say hello.", instructions="Be brief.", max_output_tokens=512,
        metadata={"ticket": "42"}, user="someone", store=True, temperature=0.5,
    )  # fmt: skip
    check_response(answered(answer))


@costs
def test_a_member_that_cannot_be_honoured_is_refused(
    api: ContractClient, agent: str, judge: Judge
) -> None:
    answer = api.message(agent, "background", input="Say hello.", background=True)
    judge("message-fields", answer.status_code)


@costs
def test_the_main_conversation_remembers_and_is_called_main(
    api: ContractClient, agent: str, judge: Judge
) -> None:
    word = f"word{secrets.token_hex(3)}"
    first = answered(api.message(agent, input=f"Remember this word: {word}"))
    answer = api.message(agent, "main", input=QUESTION, previous_response_id=first["id"])
    assert word in text_of(answered(answer))
    judge("previous-response-id", answer.json().get("previous_response_id") == first["id"])


@costs
def test_a_conversation_survives_stop_and_start(api: ContractClient, agent: str) -> None:
    word = f"word{secrets.token_hex(3)}"
    api.say(agent, f"Remember this word: {word}", "outlives")
    answered(api.post(f"instances/{agent}/stop"))
    answered(api.post(f"instances/{agent}/start"))
    assert word in api.say(agent, QUESTION, "outlives")


@costs
def test_conversations_are_isolated(api: ContractClient, agent: str) -> None:
    words = {session: f"word{secrets.token_hex(3)}" for session in SESSIONS}
    for session, word in words.items():
        api.say(agent, f"Remember this word: {word}", session)
    with every_row() as row:
        for session, own in words.items():
            with row(session):
                text = api.say(agent, QUESTION, session)
                assert [word for word in words.values() if word in text] == [own]


@costs
def test_an_answer_is_streamed(api: ContractClient, agent: str, judge: Judge) -> None:
    body = {"model": MODEL, "input": "Say hello.", "stream": True}
    with api.stream("POST", responses_path(agent, "streamed"), json=body) as answer:
        if judge("streaming", media_type_of(answer)) != "text/event-stream":
            answer.read()
            check_response(answered(answer))
            return
        events = list(api.events(answer))
    types = [event["type"] for event in events]
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    response = events[-1]["response"]
    fits(response, "Response", "createSessionResponse")
    check_response(response)
    assert text == text_of(response)


@costs
def test_each_message_may_name_another_model(api: ContractClient, agent: str) -> None:
    providers = answered(api.get("organization"))["model_providers"]
    if "openai" not in providers:
        pytest.skip("The organization has no key for a second model provider.")
    word = f"word{secrets.token_hex(3)}"
    api.say(agent, f"Remember this word: {word}", "models")
    response = answered(api.message(agent, "models", input=QUESTION, model="gpt-4o-mini"))
    check_response(response, "gpt-4o-mini")
    assert word in text_of(response)


def test_the_models_are_listed(api: ContractClient, agent: str, judge: Judge) -> None:
    judge("models", api.get(f"instances/{agent}/models").status_code)


def test_an_unknown_model_is_refused(api: ContractClient, agent: str) -> None:
    rejected(api.message(agent, input="Hello", model="no-such-model"))


def test_a_rate_limit_can_be_rehearsed(api: ContractClient, agent: str, judge: Judge) -> None:
    faults = f"{api.root_url}/local/faults"
    fault = {"kind": "message", "instance_id": agent, "status": TOO_MANY, "retry_after_s": 1}
    added = api.post(faults, json=fault)
    if not added.is_success:
        pytest.skip("The service has no rate limit, and no faults to rehearse one.")
    try:
        answer = api.message(agent, "rate-limit", input="Hello")
    finally:
        api.delete(f"{faults}/{added.json()['id']}")
    judge("rate-limits", answer.status_code)
    refused(answer, TOO_MANY)
    assert answer.headers["Retry-After"] == "1"
