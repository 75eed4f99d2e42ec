"""Budgets of real agents: turns end at once, whatever began them, and a kill forgets nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.agents.local_channel import LocalChannel
from tests.e2e.agents.test_relay_upstreams import MODELS
from tests.e2e.api import responses_path
from tests.e2e.copies import local
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

pytestmark = pytest.mark.docker

SESSION = "budgets"


@pytest.fixture
def spent(api: Api) -> Iterator[None]:
    """The organization's budget allows nothing."""
    set_budget(api, model_calls=0)
    yield
    assert local(api, "DELETE", "budget").status_code == 204


def set_budget(api: Api, **limits: Any) -> None:
    answer = local(api, "PUT", "budget", json={"per": "total", **limits})
    assert answer.status_code == 200, answer.text


def refused(api: Api, instance: str) -> int:
    """How many of the agent's kept model calls were refused."""
    calls = local(api, "GET", f"instances/{instance}/model-calls").json()
    return sum(each["outcome"] == "refused" for each in calls)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("provider", list(MODELS))
def test_openclaw_ends_the_turn_at_once_and_does_not_call_again(
    keyed: Api, instance: str, stand_in: StandIn, spent: None, provider: str, is_streamed: bool
) -> None:
    stand_in.requests.clear()
    before = refused(keyed, instance)
    body = {"model": MODELS[provider], "input": "Please.", "stream": is_streamed}
    answer = keyed.post(responses_path(instance, SESSION), json=body)
    assert answer.status_code == 402, answer.text
    error = answer.json()["error"]
    assert error["code"] == "budget_exceeded"
    assert "budget set --model-calls MORE --per total" in error["message"]
    assert refused(keyed, instance) - before == 1
    assert stand_in.requests == []


@pytest.mark.parametrize("provider", list(MODELS))
def test_the_next_message_is_answered_once_the_budget_is_raised(
    keyed: Api, instance: str, provider: str
) -> None:
    set_budget(keyed, model_calls=0)
    refusal = keyed.message(instance, "Please.", model=MODELS[provider], session=SESSION)
    assert refusal.status_code == 402
    set_budget(keyed, model_calls=1)
    # No cooldown of the provider.
    assert keyed.say(instance, "Again.", model=MODELS[provider], session=SESSION)
    assert local(keyed, "GET", "budget").json()["spent"]["model_calls"] == 1
    assert local(keyed, "DELETE", "budget").status_code == 204


def test_a_stream_that_has_begun_ends_with_the_code(api: Api, instance: str) -> None:
    path = f"instances/{instance}/replies"
    reply = [{"text": "I look.", "call": "exec", "arguments": {"command": "true"}}, "Done."]
    script = {"replies": [{"match": {"text": "look"}, "reply": reply}]}
    assert local(api, "PUT", path, json=script).status_code == 200
    set_budget(api, model_calls=1)
    body = {"model": "gpt-4o", "input": "look", "stream": True}
    with api.stream("POST", responses_path(instance, SESSION), json=body) as answer:
        lines = [each.removeprefix("data: ") for each in answer.iter_lines() if "data: " in each]
    assert local(api, "DELETE", "budget").status_code == 204
    assert local(api, "DELETE", path).status_code == 204
    *_, error, failed, end = lines
    assert end == "[DONE]"
    assert json.loads(error)["code"] == "budget_exceeded"
    assert json.loads(failed)["response"]["error"]["code"] == "budget_exceeded"


def test_a_job_fails_with_what_the_budget_says(api: Api, instance: str, spent: None) -> None:
    schedule = {"kind": "every", "every_s": 3600}
    body = {"name": "costly", "schedule": schedule, "message": "Hi", "is_enabled": False}
    job = local(api, "POST", f"instances/{instance}/jobs", json=body).json()
    path = f"instances/{instance}/jobs/{job['id']}"
    before = refused(api, instance)
    assert local(api, "POST", f"{path}/run").status_code == 202
    (run,) = eventually(lambda: local(api, "GET", f"{path}/runs").json(), "the job has run")
    assert run["outcome"] == "failed"
    assert "budget" in run["error"]
    assert refused(api, instance) - before == 1
    assert local(api, "DELETE", path).status_code == 204


def test_a_channels_turn_ends_too(api: Api, patient: str) -> None:
    channel = LocalChannel(api, patient, "telegram")
    channel.connect_offline()
    assert "Hello" in channel.say("Grace", "Hello", approve=True)
    before = refused(api, patient)
    set_budget(api, model_calls=0)
    told = channel.say("Grace", "Once more")
    assert local(api, "DELETE", "budget").status_code == 204
    assert refused(api, patient) - before == 1
    assert told
    assert "And now?" in channel.say("Grace", "And now?")


def test_what_was_spent_survives_a_kill(api: Api, instance: str, server: ServerProcess) -> None:
    set_budget(api, model_calls=100)
    api.say(instance, "Hello.", session=SESSION)
    spent = local(api, "GET", "budget").json()["spent"]
    assert spent["model_calls"] == 1
    eventually(
        lambda: local(api, "GET", "budget").json()["reserved"]["model_calls"] == 0, "it is settled"
    )
    server.kill()
    server.up()
    assert local(api, "GET", "budget").json()["spent"] == spent
    assert local(api, "DELETE", "budget").status_code == 204
