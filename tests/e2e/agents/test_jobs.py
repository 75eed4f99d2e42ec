"""Scheduled jobs of a real agent: made by the API and by the agent, due, forced, and woken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.api import Api

pytestmark = pytest.mark.docker

SOON = timedelta(seconds=4)
OWN = {
    "name": "own",
    "schedule": {"kind": "every", "everyMs": 3_600_000},
    "sessionTarget": "isolated",
    "payload": {"kind": "agentTurn", "message": "Think of the tea"},
    "delivery": {"mode": "none"},
}
ADD = {"id": "automations", "args": {"action": "add", "job": OWN}}
RULES = [
    {"match": {"job": "report", "equals": "It is nine"}, "reply": "All is well."},
    {"match": {"job": "own"}, "reply": "Tea is ready."},
    {
        "match": {"text": "plan the tea"},
        "reply": [{"call": "tool_call", "arguments": ADD}, "Done."],
    },
    {"match": {"text": "The build is done"}, "reply": "HEARTBEAT_OK"},
]


@pytest.fixture
def local(api: Api, instance: str) -> Iterator[str]:
    """The path of the agent, whose rules and jobs are gone after the test."""
    local = f"../local/instances/{instance}"
    script = {"unmatched": "offline", "replies": RULES}
    assert api.put(f"{local}/replies", json=script).status_code == 200
    yield local
    for job in api.get(f"{local}/jobs").json():
        if job["kind"] == "user":
            assert api.delete(f"{local}/jobs/{job['id']}").status_code == 204
    assert api.delete(f"{local}/replies").status_code == 204


def run_of(api: Api, local: str, job: dict[str, Any]) -> dict[str, Any]:
    path = f"{local}/jobs/{job['id']}/runs"
    (run,) = eventually(lambda: api.get(path).json(), "the job has run")
    assert isinstance(run, dict)
    return run


def test_a_due_job_is_answered_by_its_rule_and_can_be_read(api: Api, local: str) -> None:
    due_at = datetime.now(UTC) + SOON
    schedule = {"kind": "at", "at": due_at.isoformat()}
    body = {"name": "report", "schedule": schedule, "message": "It is nine"}
    created = api.post(f"{local}/jobs", json=body)
    assert created.status_code == 201, created.text
    run = run_of(api, local, created.json())
    assert (run["answer"], run["outcome"], run["is_forced"]) == ("All is well.", "ok", False)
    assert datetime.fromisoformat(run["began_at"]) >= due_at - timedelta(milliseconds=1)
    (call,) = run["model_calls"]
    assert api.get(f"../local/model-calls/{call}").json()["session_key"] == run["session_key"]
    key = {"key": run["session_key"]}
    turns = api.get(f"{local}/transcript", params=key).json()["turns"]
    assert [each["text"] for each in turns][-1] == "All is well."


def test_a_job_of_the_agents_own_is_a_job_like_any_other(
    api: Api, instance: str, local: str
) -> None:
    assert api.say(instance, "Please plan the tea", model="gpt-4o") == "Done."
    jobs = {each["name"]: each for each in api.get(f"{local}/jobs").json()}
    assert jobs["own"]["kind"] == "user"
    assert jobs["own"]["schedule"]["every_s"] == 3_600
    begun = api.post(f"{local}/jobs/{jobs['own']['id']}/run")
    assert (begun.status_code, begun.json()["path"]) == (202, "forced")
    run = run_of(api, local, jobs["own"])
    assert (run["answer"], run["is_forced"]) == ("Tea is ready.", True)


def test_openclaws_own_jobs_are_off(api: Api, local: str) -> None:
    jobs = api.get(f"{local}/jobs").json()
    assert not [each["name"] for each in jobs if each["kind"] != "user" and each["is_enabled"]]


def test_an_agent_is_woken_by_a_text(api: Api, local: str) -> None:
    assert api.post(f"{local}/wake", json={"text": "The build is done"}).status_code == 204

    def woken() -> bool:
        calls = api.get(f"{local}/model-calls?limit=5").json()
        details = [api.get(f"../local/model-calls/{each['id']}").text for each in calls]
        return any("The build is done" in each for each in details)

    eventually(woken, "the agent was told")
