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


@pytest.mark.parametrize("is_streamed", [False, True])
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
