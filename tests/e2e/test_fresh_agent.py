"""An agent that nobody has talked with: what Open Responses asks of it, and then a real model.

It is without egress. The model is of a server on this machine that is not ours.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.agents.local_channel import LocalChannel
from tests.e2e.api import Api, responses_path
from tests.e2e.open_responses import CALL, asks_for_weather, calls_in, message, sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.local_model import LocalModel
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.long]

Answers = list[tuple[dict[str, Any], list[dict[str, Any]]]]
"""Responses, and the events of those that were streamed."""
LEAN = {
    "agents.defaults.contextInjection": "never",
    "agents.defaults.skills": [],
    "tools.allow": ["read", "write", "exec"],
}
"""The advice of docs/guides/local-models.md for small models: a prompt of 3,000 tokens."""
MODEL = "smol/smollm2"
# It reads some hundred tokens a second where nothing else runs.
TURN_TIMEOUT_S = 290.0
COUNTRIES = ("Italy", "Spain", "Norway", "Japan", "Kenya")
NOT_APPEND_ONLY = "cannot be represented as an append-only"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
COMPLIANCE: list[dict[str, Any]] = [
    {"input": [message("user", "Say hello in exactly 3 words.")]},
    {"input": [message("user", "Count from 1 to 5.")], "stream": True},
    {
        "input": [
            message("system", "You are a pirate. Always respond in pirate speak."),
            message("user", "Say hello."),
        ]
    },
    asks_for_weather(stream=False),
    asks_for_weather(stream=True),
    {
        "input": [
            message(
                "user",
                [
                    {
                        "type": "input_text",
                        "text": "What do you see in this image? Answer in one sentence.",
                    },
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                ],
            )
        ]
    },
    {
        "input": [
            message("user", "My name is Alice."),
            message("assistant", "Hello Alice! Nice to meet you. How can I help you today?"),
            message("user", "What is my name?"),
        ]
    },
]
"""What the compliance suite of Open Responses sends, all at once."""


@pytest.fixture(scope="module")
def api(own_server: ServerProcess) -> Iterator[Api]:
    with Api(own_server.base_url, own_server.key) as api:
        yield api


@pytest.fixture(scope="module")
def fresh(api: Api) -> Iterator[str]:
    """The agent, running and without egress."""
    fresh = api.created("fresh")
    changed = api.patch(local(api, fresh), json={"egress": "off"})
    assert changed.status_code == 200, changed.text
    api.until(fresh, "running")
    yield fresh
    assert api.delete(f"instances/{fresh}").status_code == 204


@pytest.fixture(scope="module")
def answers(api: Api, fresh: str) -> Answers:
    """Its first answers."""
    path = responses_path(fresh)
    with ThreadPoolExecutor(len(COMPLIANCE)) as pool:
        return list(pool.map(lambda asked: sent(api, path, **asked), COMPLIANCE))


@pytest.fixture
def agent(
    api: Api,
    fresh: str,
    answers: Answers,
    local_model: LocalModel,
) -> str:
    """The agent after that, with a prompt that fits the model, and the model."""
    local_model.start(os.environ)
    changed = api.patch(f"instances/{fresh}", json={"openclaw_config": LEAN})
    assert changed.status_code == 200, changed.text
    return fresh


def local(api: Api, instance_id: str) -> str:
    """Where the local API has an agent."""
    return f"{str(api.base_url).replace('/v1/', '/local/')}instances/{instance_id}"


# Seven first turns at once.
@pytest.mark.nightly
def test_it_passes_the_compliance_suite(api: Api, fresh: str, answers: Answers) -> None:
    assert api.get(local(api, fresh)).json()["egress_in_force"] == "off"
    for response, _ in answers:
        assert response["status"] == "completed", response
        assert response["output"]
    (plain, _), (streamed, events) = answers[3:5]
    assert calls_in(plain) == calls_in(streamed) == [CALL]
    kinds = [event["type"] for event in events if event.get("item", {}).get("type") != "message"]
    for kind in ("output_item.added", "function_call_arguments.delta",
                 "function_call_arguments.done", "output_item.done"):  # fmt: skip
        assert f"response.{kind}" in kinds


@pytest.mark.parametrize("name", ["slack", "telegram"])
def test_people_talk_to_it_in_messengers_on_this_machine(
    api: Api, fresh: str, answers: Answers, name: str
) -> None:
    # Slack's plugin calls hosts of its own, which the sandbox diverts; Telegram's has an address.
    channel = LocalChannel(api, fresh, name)
    channel.connect_offline()
    assert 'You said: "Hello"' in channel.say("Ada", "Hello", approve=True)
    channel.disconnect()


def asked(text: str, **more: Any) -> dict[str, Any]:
    # It may go on for ever.
    return {"model": MODEL, "input": text, "max_output_tokens": 48, **more}


@pytest.mark.nightly
def test_an_agent_answers_with_a_real_local_model(api: Api, agent: str) -> None:
    path = responses_path(agent, "real")
    answer = api.post(path, json=asked("What is the capital of France?"), timeout=TURN_TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    response = answer.json()
    assert response["model"] == MODEL
    # What it says, and whether it comes to an end, is its own affair: it is small.
    assert words_of(response).strip()
    assert response["usage"]["input_tokens"] > 1000
    (call, *_) = model_calls(api, agent)
    assert (call["provider"], call["outcome"]) == ("smol", "answered")


def stream(api: Api, agent: str, session: str, text: str) -> list[dict[str, Any]]:
    """The events of an answer."""
    path, body = responses_path(agent, session), asked(text, stream=True)
    with api.stream("POST", path, json=body, timeout=TURN_TIMEOUT_S) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def stream_in_pieces(api: Api, agent: str) -> list[dict[str, Any]]:
    """The events of the first answer that OpenClaw sends piece by piece, or of the last one.

    OpenClaw fails a stream if the final text does not extend what it has sent, and sends some texts
    only once they are complete: the output of a small model causes both at times. Each attempt has
    a session of its own: the model repeats what it reads in its history.
    """
    events: list[dict[str, Any]] = []
    for country in COUNTRIES:
        question = f"What is the capital of {country}?"
        events = stream(api, agent, country, question)
        is_refused = NOT_APPEND_ONLY in str(events[-1]["response"]["error"])
        if not is_refused and len(deltas_of(events)) > 1:
            break
    return events


def deltas_of(events: list[dict[str, Any]]) -> list[str]:
    return [each["delta"] for each in events if each["type"] == "response.output_text.delta"]


@pytest.mark.nightly
def test_its_stream_comes_in_pieces_that_add_up_and_is_counted(api: Api, agent: str) -> None:
    events = stream_in_pieces(api, agent)
    final = events[-1]
    assert final["type"] in {"response.completed", "response.incomplete"}, (
        final["response"]["error"],
        model_calls(api, agent)[0],
    )
    deltas = deltas_of(events)
    assert len(deltas) > 1
    assert "".join(deltas) == words_of(final["response"])
    assert final["response"]["usage"]["output_tokens"] > 1
    usage = api.get(f"{local(api, agent)}/usage").json()
    counted = [row for row in usage["rows"] if row["provider"] == "smol"]
    assert {row["model"] for row in counted} == {"smol/smollm2"}
    used = final["response"]["usage"]["input_tokens"]
    assert sum(row["input_tokens"] for row in counted) >= used > 1000
    assert {row["cost_usd"] for row in counted} == {0}


def words_of(response: dict[str, Any]) -> str:
    (message,) = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for part in message["content"])


def model_calls(api: Api, instance_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"{local(api, instance_id)}/model-calls").json()
    return found
