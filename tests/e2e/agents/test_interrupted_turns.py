"""Turns of real agents that somebody leaves, cuts off or waits for, and a boot that fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.stand_in import Slow

if TYPE_CHECKING:
    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

pytestmark = pytest.mark.docker

BEGIN_TIMEOUT_S = 60
LEAVE_TIMEOUT_S = 10


def test_a_server_killed_in_the_middle_of_a_stream_loses_no_conversation(
    keyed: Api, patient: str, server: ServerProcess, stand_in: StandIn
) -> None:
    keyed.say(patient, "The password is swordfish.")
    slow = Slow()
    with (
        stand_in.behaving(slow),
        closing(keyed.events(patient, "Tell me a long story.")) as events,
    ):
        for event in events:
            if event["type"] == "response.output_text.delta":
                break
        server.kill()
        with pytest.raises(httpx.TransportError):
            list(events)
        assert slow.left.wait(LEAVE_TIMEOUT_S)
    server.up()
    assert keyed.status(patient) == "running"
    stand_in.requests.clear()
    assert keyed.say(patient, "What was the password?")
    for words in ("swordfish", "Tell me a long story.", "What was the password?"):
        assert words in stand_in.requests[-1]


def test_a_client_that_leaves_a_stream_ends_the_run(
    keyed: Api, patient: str, stand_in: StandIn
) -> None:
    slow = Slow()
    with (
        stand_in.behaving(slow),
        closing(keyed.events(patient, "Tell me a long story.")) as events,
    ):
        next(events)
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        events.close()
        assert slow.left.wait(LEAVE_TIMEOUT_S)
    assert keyed.say(patient, "Never mind.")


def test_a_stop_waits_for_the_turn_that_is_running(
    keyed: Api, patient: str, stand_in: StandIn
) -> None:
    slow = Slow()
    with stand_in.behaving(slow), ThreadPoolExecutor() as pool:
        sending = pool.submit(keyed.say, patient, "Take your time.")
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        stopping = pool.submit(keyed.post, f"instances/{patient}/stop")
        slow.go_on()
        assert sending.result() == Slow.WORDS
        assert stopping.result().json()["status"] == "stopped"
    keyed.start(patient)
    assert keyed.say(patient, "Thanks.")


def test_a_turn_that_is_too_long_for_a_stop_goes_on_after_the_start(
    keyed: Api, patient: str, stand_in: StandIn
) -> None:
    slow = Slow()
    with stand_in.behaving(slow), ThreadPoolExecutor() as pool:
        sending = pool.submit(keyed.say, patient, "Take all the time of the world.")
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        assert keyed.post(f"instances/{patient}/stop").json()["status"] == "stopped"
        assert keyed.post(f"instances/{patient}/start").json()["status"] == "running"
        slow.go_on()
        assert sending.result() == Slow.WORDS
    assert keyed.say(patient, "Thanks.")
