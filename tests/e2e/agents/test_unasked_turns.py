"""What a real agent does when no client asks: seen in traces, messages and its inbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.api import Api

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("prompt_texts")]

ROUNDS = 4
"""Waits for one message: an agent that is busy takes its time."""


@pytest.fixture
def path(api: Api, instance: str) -> Iterator[str]:
    """Where the shared agent's own things are; no script is left there."""
    path = f"../local/instances/{instance}"
    yield path
    assert api.delete(f"{path}/replies").status_code == 204


def scripted(api: Api, path: str, *replies: Any) -> None:
    put = api.put(f"{path}/replies", json={"replies": replies})
    assert put.status_code == 200, put.text


def next_of(api: Api, path: str, member: str, after: int, **query: Any) -> Any:
    """The first of a list after a number; waits for it."""
    for _ in range(ROUNDS):
        answer = api.get(path, params={"after": after, "wait_s": 25, **query})
        assert answer.status_code == 200, answer.text
        if found := answer.json()[member]:
            return found[0]
    pytest.fail(f"{path} has nothing after {after}")


def latest(api: Api, path: str) -> int:
    number: int = api.get(path).json()["after"]
    return number


def test_a_sub_agents_report_comes_as_a_message_of_its_session(
    api: Api, instance: str, path: str
) -> None:
    session = f"unasked-{uuid4()}"
    spawn = {"call": "sessions_spawn", "arguments": {"task": "Look at the moon closely"}}
    scripted(
        api,
        path,
        {"match": {"text": "a background task completed"}, "reply": "They say it is cheese."},
        {"match": {"text": "look at the moon closely"}, "reply": "It is cheese."},
        {"match": {"text": "research the moon"}, "reply": [spawn, {"text": "They are at it."}]},
    )
    after = latest(api, f"{path}/messages")
    assert api.say(instance, "Please research the moon.", session=session) == "They are at it."
    message = next_of(api, f"{path}/messages", "messages", after, session=session)
    assert (message["text"], message["kind"]) == ("They say it is cheese.", "subagent")
    assert message["session"] == session
    trace = api.get(f"{path}/traces/{message['trace_id']}").json()
    assert (trace["kind"], trace["status"]) == ("subagent", "answered")
    assert [each["kind"] for each in trace["steps"]] == ["model_call"]
    traces = api.get(f"{path}/traces", params={"limit": 3}).json()
    assert [each["kind"] for each in traces] == ["subagent", "subagent", "message"]


def test_a_jobs_answer_is_a_message_and_comes_to_the_inbox(
    api: Api, instance: str, path: str
) -> None:
    inbox = api.get(f"{path}/inbox").json()
    due = datetime.now(UTC) + timedelta(seconds=5)
    job = {
        "name": f"job {uuid4()}",
        "schedule": {"kind": "at", "at": due.isoformat()},
        "sessionTarget": "isolated",
        "payload": {"kind": "agentTurn", "message": "It is time."},
        "delivery": {"mode": "webhook", "to": f"{inbox['url']}/jobs"},
    }
    call = {"call": "automations", "arguments": {"action": "add", "job": job}}
    scripted(api, path, {"match": {"text": "make a job"}, "reply": [call, {"text": "Made."}]})
    after = latest(api, f"{path}/messages")
    assert api.say(instance, "Please make a job.", session=f"unasked-{uuid4()}") == "Made."
    message = next_of(api, f"{path}/messages", "messages", after)
    assert (message["kind"], message["job"]) == ("job", job["name"])
    assert "It is time." in message["text"]
    webhook = next_of(api, f"{path}/inbox", "webhooks", inbox["after"])
    assert (webhook["method"], webhook["path"]) == ("POST", "/jobs")
    assert "It is time." in webhook["body"]


def test_a_webhook_makes_the_agent_speak(api: Api, path: str) -> None:
    scripted(api, path, {"reply": "The build is green."})
    after = latest(api, f"{path}/messages")
    sent = api.post(f"{path}/hooks/wake", json={"text": "Build 7 is done."})
    assert sent.json()["answer"]["ok"] is True, sent.text
    message = next_of(api, f"{path}/messages", "messages", after)
    assert (message["text"], message["kind"]) == ("The build is green.", "hook")
    sent = api.post(f"{path}/hooks/agent", json={"message": "Import", "deliver": False})
    assert sent.json()["answer"]["runId"]
    message = next_of(api, f"{path}/messages", "messages", message["number"])
    assert message["kind"] == "hook"
    assert api.post(f"{path}/hooks/unheard-of", json={}).status_code == 404
