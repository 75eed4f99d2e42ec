"""Named providers and Ollama, between real agents and a stand-in on a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.containers import config_of, container_of
from tests.e2e.stand_in import refusal

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api
    from tests.e2e.stand_in import StandIn

pytestmark = pytest.mark.docker

SESSION = "others"
MODEL = "lab/Some-Org/model:8b@q4"
CHAT = "/v1/chat/completions"


def chats(stand_in: StandIn) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in stand_in.requests if each.path.startswith(CHAT)]


def test_a_named_providers_model_answers_and_gets_no_key_of_anybodys(
    keyed: Api, instance: str, stand_in: StandIn, engine: docker.DockerClient
) -> None:
    stand_in.requests.clear()
    answer = keyed.message(instance, "Say something.", model=MODEL, session=SESSION)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == MODEL
    (sent,) = chats(stand_in)
    assert sent["model"] == MODEL.removeprefix("lab/")
    assert sent["tools"]
    assert sent["stream_options"] == {"include_usage": True}
    token = config_of(container_of(engine, keyed, instance))["models"]["providers"][
        "chowder-other"
    ]["apiKey"]
    for recorded in stand_in.requests:
        assert "authorization" not in recorded.headers
        assert token not in recorded


def test_its_model_calls_the_agents_tools(keyed: Api, instance: str, stand_in: StandIn) -> None:
    async def calling(_: Any, send: Any) -> None:
        body = json.loads(stand_in.requests[-1].body)
        said = [turn for turn in body["messages"] if turn["role"] == "tool"]
        if said:
            delta: dict[str, Any] = {"content": f"It came to: {said[-1]['content']}"}
        else:
            function = {"name": "exec", "arguments": json.dumps({"command": "echo $((6 * 7))"})}
            call = {"index": 0, "id": "call_1", "type": "function", "function": function}
            delta = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "stop" if said else "tool_calls"
        await send_chunks(send, delta, reason)

    with stand_in.behaving(calling):
        said = keyed.say(instance, "Reckon.", model=MODEL, session="reckoning")
    assert "42" in said


def test_an_answer_that_is_cut_off_within_a_tool_call_says_so(
    keyed: Api, instance: str, stand_in: StandIn
) -> None:
    async def cut_off(_: Any, send: Any) -> None:
        function = {"name": "exec", "arguments": '{"command": "echo'}
        call = {"index": 0, "id": "call_1", "type": "function", "function": function}
        await send_chunks(send, {"role": "assistant", "tool_calls": [call]}, "length")

    with stand_in.behaving(cut_off):
        answer = keyed.message(instance, "Reckon.", model=MODEL, session=SESSION)
    assert answer.status_code == 502, answer.text
    assert "token limit within a tool call" in answer.json()["detail"]["error"]


@pytest.mark.nightly
def test_a_long_conversation_that_cannot_fit_is_not_summarized_in_vain(
    keyed: Api, instance: str, stand_in: StandIn
) -> None:
    for number in range(6):
        said = f"Keep {number} in mind. " + "Once upon a time there was a lab. " * 180
        assert keyed.say(instance, said, model=MODEL, session="long")
    stand_in.requests.clear()
    words = "request (30000 tokens) exceeds the available context size (4096 tokens)"
    with stand_in.behaving(refusal(400, words)):
        answer = keyed.message(instance, "And now?", model=MODEL, session="long")
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["detail"]["error"]
    assert not any("context summarization" in each for each in stand_in.requests)


async def send_chunks(send: Any, delta: dict[str, Any], reason: str) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for choice in ({"delta": delta, "finish_reason": None}, {"delta": {}, "finish_reason": reason}):
        chunk = json.dumps({**base, "choices": [{"index": 0, **choice}]})
        event = f"data: {chunk}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
