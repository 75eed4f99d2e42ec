"""History that clients send whole, and messages that they send again, with a real agent."""

from __future__ import annotations

import json
import subprocess
import uuid
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.session_keys import session_key
from tests.e2e.api import responses_path, text_of
from tests.e2e.serving import is_before
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

COUNT = 4


def local(api: Api, path: str) -> str:
    return f"{str(api.base_url).removesuffix('/v1/')}/local/{path}"


def transcript(api: Api, instance: str, session: str) -> list[dict[str, Any]]:
    answer = api.get(local(api, f"instances/{instance}/sessions/{session}/transcript"))
    turns: list[dict[str, Any]] = answer.json()["turns"]
    return turns


def test_whole_history_costs_what_single_messages_cost(
    api: Api, server: ServerProcess, instance: str
) -> None:
    from openai import OpenAI

    costs: dict[str, int] = {}
    for name in ("singly", "whole"):
        session, history, text = f"{name}-{uuid.uuid4()}", list[Any](), ""
        url = f"{server.base_url}/instances/{instance}/session/{session}"
        with OpenAI(base_url=url, api_key=server.key) as client:
            for number in range(COUNT):
                history.append({"role": "user", "content": f"This is number {number}."})
                given = history if name == "whole" else history[-1:]
                response = client.responses.create(model="gpt-4o", input=given)
                history += response.output
                text = response.output_text
                assert response.usage is not None
                costs[name] = costs.get(name, 0) + response.usage.input_tokens
        assert text.startswith(f"[offline] Turn {COUNT}.")
        assert len(transcript(api, instance, session)) == 2 * COUNT
    assert costs["whole"] == costs["singly"]


def test_a_message_whose_model_call_failed_is_said_once(api: Api, instance: str) -> None:
    session, word = uuid.uuid4().hex, uuid.uuid4().hex
    rule = {"match": {"text": word}, "times": 1, "reply": {"error": 500, "message": "Broken."}}
    path = local(api, f"instances/{instance}/replies")
    assert api.put(path, json={"unmatched": "offline", "replies": [rule]}).is_success
    try:
        api.say(instance, "Hello.", session=session)
        assert api.message(instance, word, session=session).status_code == 500
        answer = api.say(instance, word, session=session)
    finally:
        api.delete(path)
    assert answer == f'[offline] Turn 2. You said: "{word}" Before that: "Hello."'
    said = [each for each in transcript(api, instance, session) if each["role"] == "user"]
    assert [(each["text"], each["status"]) for each in said] == [
        ("Hello.", "completed"),
        (word, "completed"),
    ]
    (attempt,) = said[1]["attempts"]
    assert attempt["status"] == "failed"
    assert attempt["error"]


@pytest.mark.skipif(
    is_before("2026.9.1"), reason="OpenClaw keeps the message of a client that has gone"
)
def test_a_message_whose_client_has_gone_is_cancelled(api: Api, instance: str) -> None:
    session, word = uuid.uuid4().hex, uuid.uuid4().hex
    rule = {"match": {"text": word}, "times": 2, "reply": {"delay_s": 60, "text": "Late."}}
    path = local(api, f"instances/{instance}/replies")
    assert api.put(path, json={"unmatched": "offline", "replies": [rule]}).is_success
    expected = [(f"{word} one", "cancelled"), (f"{word} two", "cancelled")]

    def is_cancelled(count: int) -> bool:
        said = transcript(api, instance, session)
        return [(each["text"], each["status"]) for each in said] == expected[:count]

    try:
        for count, (text, _) in enumerate(expected, start=1):
            hang_up_once_the_model_is_asked(api, instance, session, text, count)
            eventually(partial(is_cancelled, count), f"{count} messages are cancelled")
    finally:
        api.delete(path)
    api.say(instance, f"{word} two", session=session)
    said = [each for each in transcript(api, instance, session) if each["role"] == "user"]
    assert [(each["status"], len(each["attempts"])) for each in said] == [
        ("cancelled", 0),
        ("completed", 1),
    ]


def hang_up_once_the_model_is_asked(
    api: Api, instance: str, session: str, text: str, count: int
) -> None:
    """Sends a message whose model call is the session's `count`-th, and is gone by its answer."""

    def is_asked() -> bool:
        listed = api.get(local(api, f"instances/{instance}/model-calls")).json()
        calls = [each for each in listed if each["session"] == session]
        return len(calls) == count

    port = api.base_url.port
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        headers = {
            "Authorization": api.headers["Authorization"],
            "Content-Type": "application/json",
        }
        body = json.dumps({"model": "gpt-4o", "input": text})
        path = f"/v1/{responses_path(instance, session)}"
        connection.request("POST", path, body=body, headers=headers)
        eventually(is_asked, "the model is asked")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_agent_that_has_forgotten_is_told_the_whole_history(
    api: Api, instance: str, is_streamed: bool
) -> None:
    session = uuid.uuid4().hex
    first = {"role": "user", "content": "My name is Ada."}
    body = {"model": "gpt-4o", "input": [first]}
    output = api.post(responses_path(instance, session), json=body).json()["output"]
    sandbox_id = api.get(f"instances/{instance}").json()["sandbox_id"]
    delete = ["openclaw", "sessions", "delete", session_key(session), "--yes"]
    subprocess.run(["docker", "exec", sandbox_id, *delete], check=True, capture_output=True)
    body["input"] = [first, *output, {"role": "user", "content": "And you?"}]
    answer = api.post(responses_path(instance, session), json=body | {"stream": is_streamed})
    expected = '[offline] Turn 2. You said: "And you?" Before that: "My name is Ada."'
    if is_streamed:
        assert answer.text.count("event: response.created") == 1
        assert expected.replace('"', r"\"") in answer.text
    else:
        assert text_of(answer.json()) == expected
