"""What agents remember, of whom, and which messages are refused."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from chowder_local.client import Client
from tests.e2e.api import Api, text_of

if TYPE_CHECKING:
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

AWKWARD_NAMES = [
    "two words",
    "a/b/c/",
    "caf\u00e9",
    "cafe\u0301",
    "Case",
    "case",
    "n" * 300,
    "cron:x",
    "agent:main:main",
    "../x",
    "50% & more?#",
    "%2F",
    "/",
    "日本語 🦞",
]


# A turn for each name.
@pytest.mark.slow
def test_every_session_name_is_a_conversation_of_its_own_listed_and_read_by_it(
    server: ServerProcess, api: Api, instance: str
) -> None:
    run = uuid.uuid4().hex
    main = f"In the main one {run}."
    api.say(instance, main)
    for number, name in enumerate(AWKWARD_NAMES):
        assert "Turn 1." in api.say(instance, f"Secret {number}.", session=name), name
    with Client(server.base_url, server.key) as client:
        first, *_ = listed = client.sessions(instance)
        assert first["is_main"]
        messages = {each["name"]: each["messages"] for each in listed}
        for number, name in enumerate(AWKWARD_NAMES):
            assert messages[name] == 2, name
            asked, _ = client.transcript(instance, name)["turns"]
            assert asked["text"] == f"Secret {number}.", name
    for name in ("Case", "case"):
        secret = f"Secret {AWKWARD_NAMES.index(name)}."
        assert f'Before that: "{secret}"' in api.say(instance, "And before?", session=name)
    assert f'Before that: "{main}"' in api.say(instance, "And before?")


@pytest.mark.slow
def test_switching_the_model_keeps_the_conversation(api: Api, instance: str) -> None:
    session = uuid.uuid4().hex
    models = ["claude-sonnet-4-20250514", "gpt-4o", "gemini-2.0-flash", "gpt-4o-mini", "o3-mini"]
    for turn, model in enumerate(models, 1):
        answer = api.say(instance, f"I am turn {turn}.", model=model, session=session)
        assert f"Turn {turn}." in answer, model
        assert turn == 1 or f"I am turn {turn - 1}." in answer, model


def test_the_main_conversation_outlives_the_server_and_a_stop(
    api: Api, server: ServerProcess, patient: str
) -> None:
    api.say(patient, "Mind the gap.")
    server.down()
    server.up()
    assert 'Before that: "Mind the gap."' in api.say(patient, "After the restart.")
    api.stop(patient)
    api.start(patient)
    assert 'Before that: "After the restart."' in api.say(patient, "After the stop.")


@pytest.mark.slow
def test_a_stopped_agent_stays_stopped_over_a_restart_and_remembers(
    api: Api, server: ServerProcess, patient: str
) -> None:
    api.say(patient, "Good night.")
    api.stop(patient)
    server.down()
    server.up()
    assert api.status(patient) == "stopped"
    api.start(patient)
    assert 'Before that: "Good night."' in api.say(patient, "Good morning.")


def test_two_messages_at_once_to_one_session_are_both_answered(api: Api, instance: str) -> None:
    session = uuid.uuid4().hex
    api.say(instance, "First.", session=session)
    with ThreadPoolExecutor() as pool:
        texts = ["I am the one.", "I am the other."]
        answers = list(pool.map(lambda text: api.say(instance, text, session=session), texts))
    for text, answer in zip(texts, answers, strict=True):
        assert f'You said: "{text}"' in answer
    assert "Turn 4." in api.say(instance, "Last.", session=session)


@pytest.mark.parametrize("is_streamed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_messages_that_race_to_open_a_session_are_all_answered(
    api: Api, instance: str, is_streamed: bool
) -> None:
    session = uuid.uuid4().hex
    texts = [f"I am number {number}." for number in range(4)]

    def say(text: str) -> str:
        if not is_streamed:
            return api.say(instance, text, session=session)
        *_, last = api.events(instance, text, session=session)
        return text_of(last["response"])

    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(say, texts))
    for text, answer in zip(texts, answers, strict=True):
        assert f'You said: "{text}"' in answer
    assert "Turn 5." in api.say(instance, "Last.", session=session)


def test_a_message_that_is_too_large_for_the_agent_is_refused(api: Api, instance: str) -> None:
    answer = api.message(instance, "x" * 21_000_000, session="large")
    assert answer.status_code == 413
    assert "larger" in answer.json()["detail"]


@pytest.mark.slow
def test_of_two_racing_stops_one_wins(api: Api, patient: str) -> None:
    with ThreadPoolExecutor() as pool:
        stops = list(pool.map(lambda _: api.post(f"instances/{patient}/stop"), range(2)))
    assert sorted(answer.status_code for answer in stops) == [200, 409]
    with ThreadPoolExecutor() as pool:
        starts = list(pool.map(lambda _: api.post(f"instances/{patient}/start"), range(2)))
    assert sorted(answer.status_code for answer in starts) == [200, 409]


@pytest.mark.slow
def test_a_stopped_agent_takes_no_message(api: Api, patient: str) -> None:
    api.stop(patient)
    for session in (None, "some"):
        answer = api.message(patient, "Hello?", session=session)
        assert answer.status_code == 409
        assert "stopped" in answer.json()["detail"]


def test_an_unknown_model_is_refused_with_the_known_ones(api: Api, instance: str) -> None:
    answer = api.message(instance, "Hello", model="llama-9000")
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    assert "llama-9000" in detail
    assert "claude-" in detail


def test_a_message_without_input_is_refused_by_name(api: Api, instance: str) -> None:
    answer = api.post(f"instances/{instance}/responses", json={"model": "gpt-4o"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "input"]


@pytest.mark.slow
def test_an_organization_without_model_keys_is_told_so(server: ServerProcess) -> None:
    with Api(server.base_url, "none") as anyone:
        key = anyone.post("organization/signup", json={"name": "bare"}).json()["api_key"]
    with Api(server.base_url, key) as bare:
        instance_id = bare.created("keyless", model_provider="openai")
        with pytest.raises(AssertionError, match="error"):
            bare.until(instance_id, "running")
        message = bare.get(f"instances/{instance_id}").json()["error_message"]
        assert "openai" in message
        assert "model_api_keys" in message
        limited = bare.post("instances", json={"name": "second"})
        assert limited.status_code == 402
        assert limited.json() == {
            "detail": "Instance limit reached (1/1). Upgrade your subscription."
        }
        assert bare.delete(f"instances/{instance_id}").status_code == 204
        assert bare.post("instances", json={"name": "third"}).status_code == 201


def test_an_agent_of_another_organization_is_not_found(
    api: Api, server: ServerProcess, instance: str
) -> None:
    with Api(server.base_url, "none") as anyone:
        key = anyone.post("organization/signup", json={"name": "other"}).json()["api_key"]
        assert anyone.get(f"instances/{instance}").status_code == 401
    with Api(server.base_url, key) as other:
        assert other.get("instances").json() == []
        answers = [
            other.get(f"instances/{instance}"),
            other.get(f"instances/{instance}/status"),
            other.patch(f"instances/{instance}", json={"name": "mine"}),
            other.post(f"instances/{instance}/stop"),
            other.delete(f"instances/{instance}"),
            other.message(instance, "Hello"),
            other.message(instance, "Hello", session="s"),
            other.get(f"{server.base_url.removesuffix('/v1')}/local/instances/{instance}/gateway"),
        ]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["detail"] for answer in answers} == {"Instance not found."}
    assert api.status(instance) == "running"
