"""What a real agent is doing: followed, waited for, ended; and its sessions, changed over HTTP."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.e2e.copies import local
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.e2e.api import Api

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("prompt_texts")]

SPAWN = {"call": "sessions_spawn", "arguments": {"task": "Look at the moon closely"}}
REPORT = {"match": {"text": "a background task"}, "reply": "They say it is cheese."}
FOUND = {"match": {"text": "look at the moon closely"}, "reply": "It is cheese."}
RESEARCH = {"match": {"text": "research the moon"}, "reply": [SPAWN, {"text": "They are at it."}]}
SLEEP = {
    "match": {"text": "take a nap"},
    "reply": [{"call": "exec", "arguments": {"command": "sleep 600"}}, {"text": "I am awake."}],
}


@pytest.fixture
def path(api: Api, instance: str) -> Iterator[str]:
    """The shared agent's own address; no script is left there, and nothing in progress."""
    path = f"instances/{instance}"
    yield path
    local(api, "DELETE", f"{path}/replies")
    assert waited(api, path)["status"] == "idle"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def scripted(api: Api, path: str, *replies: Any) -> None:
    local(api, "PUT", f"{path}/replies", json={"replies": replies})


def waited(api: Api, path: str, timeout_s: float = 50) -> dict[str, Any]:
    content: dict[str, Any] = local(
        api, "POST", f"{path}/wait", json={"timeout_s": timeout_s}
    ).json()
    return content


def doing(api: Api, path: str) -> dict[str, Any]:
    content: dict[str, Any] = local(api, "GET", f"{path}/activity").json()
    return content


@contextmanager
def followed(api: Api, path: str) -> Iterator[list[dict[str, Any]]]:
    """The events of an agent in the block, as they come."""
    root = str(api.base_url).removesuffix("/v1/")
    seen: list[dict[str, Any]] = []
    with api.stream("GET", f"{root}/local/{path}/events") as stream:
        lines = stream.iter_lines()
        # The comment that says that it has begun.
        next(lines)

        def read() -> None:
            for line in lines:
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                if seen and seen[-1]["type"] == "clock.set":
                    return

        reader = threading.Thread(target=read)
        reader.start()
        yield seen
        # The last event, which ends the reader.
        local(api, "PUT", f"{path}/clock", json={})
        reader.join()


def test_a_turn_with_a_sub_agent_is_followed_and_waited_for(
    api: Api, instance: str, path: str
) -> None:
    session = f"activity-{uuid4()}"
    scripted(api, path, REPORT, FOUND, RESEARCH)
    after = local(api, "GET", f"{path}/messages").json()["after"]
    with followed(api, path) as seen:
        assert api.say(instance, "Please research the moon.", session=session) == "They are at it."
        assert waited(api, path)["status"] == "idle"
        # The report comes after the answer, and nobody gets it: here it is.
        query = {"after": after, "session": session}
        (report,) = local(api, "GET", f"{path}/messages", params=query).json()["messages"]
        assert report["text"] == "They say it is cheese."
        eventually(lambda: [each for each in seen if each["type"] == "task.ended"], "the task ends")
    kinds = [each["type"] for each in seen]
    assert kinds[:4] == ["message.received", "turn.begun", "tool.begun", "tool.ended"]
    assert seen[0]["text"] == "Please research the moon."
    assert (seen[2]["tool"], "closely" in seen[2]["arguments"]) == ("sessions_spawn", True)
    sent = [(each["kind"], each["text"]) for each in seen if each["type"] == "message.sent"]
    assert sent == [("message", "They are at it."), ("subagent", "They say it is cheese.")]
    (begun,) = [each for each in seen if each["type"] == "task.begun"]
    (ended,) = [each for each in seen if each["type"] == "task.ended"]
    assert (begun["task_kind"], begun["task_id"]) == ("subagent", ended["task_id"])
    assert ended["outcome"] == "completed"
    assert kinds.count("turn.begun") == kinds.count("turn.ended") == 3


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_turn_is_cancelled_in_the_middle_of_a_tool(
    api: Api, instance: str, path: str, threads: ThreadPoolExecutor, *, is_streamed: bool
) -> None:
    session = f"activity-{uuid4()}"
    scripted(api, path, SLEEP)

    def send() -> httpx.Response:
        body = {"model": "gpt-4o", "input": "Please take a nap.", "stream": is_streamed}
        return api.post(f"{path}/session/{session}/responses", json=body)

    sent = threads.submit(send)
    (turn,) = eventually(
        lambda: [each for each in doing(api, path)["turns"] if each["state"] == "running_tools"],
        "it runs",
    )
    assert (turn["tools"][0]["name"], turn["session"]) == ("exec", session)
    assert waited(api, path, 0)["status"] == "busy"
    ended = local(api, "DELETE", f"{path}/activity/{turn['trace_id']}").json()
    assert ended == {"cancelled": [turn["trace_id"]]}
    refused = sent.result()
    assert "turn_cancelled" in refused.text
    assert refused.status_code == 409
    assert waited(api, path)["status"] == "idle"
    scripted(api, path, {"reply": "I am here."})
    assert api.say(instance, "Are you?", session=session) == "I am here."


def test_a_sub_agent_is_shown_below_its_agent_and_ended_alone(
    api: Api, instance: str, path: str
) -> None:
    session = f"activity-{uuid4()}"
    nap = {"match": {"text": "look at the moon closely"}, "reply": SLEEP["reply"]}
    scripted(api, path, REPORT, nap, RESEARCH)
    assert api.say(instance, "Please research the moon.", session=session) == "They are at it."
    (task,) = eventually(
        lambda: [each for each in doing(api, path)["tasks"] if each["turns"]], "it is at it"
    )
    assert (task["kind"], task["status"]) == ("subagent", "running")
    eventually(lambda: doing(api, path)["tasks"][0]["turns"][0]["tools"], "it runs a tool")
    ended = local(api, "DELETE", f"{path}/activity/{task['task_id']}").json()
    assert ended == {"cancelled": [task["task_id"]]}
    assert waited(api, path)["status"] == "idle"


def test_a_session_is_reset_compacted_and_removed(api: Api, instance: str, path: str) -> None:
    session = f"activity-{uuid4()}"
    assert "Turn 1" in api.say(instance, "One.", session=session)
    assert "Turn 2" in api.say(instance, "Two.", session=session)
    local(api, "POST", f"{path}/sessions/{session}/reset")
    assert "Turn 1" in api.say(instance, "Three.", session=session)
    compacted = local(api, "POST", f"{path}/sessions/{session}/compact").json()
    assert compacted["is_compacted"] or compacted["reason"]
    assert local(api, "POST", f"{path}/sessions/{session}/abort").json() == {"cancelled": []}
    local(api, "DELETE", f"{path}/sessions/{session}")
    listed = local(api, "GET", f"{path}/sessions").json()["sessions"]
    assert session not in {each["name"] for each in listed}
    assert "Turn 1" in api.say(instance, "Four.", session=session)
    local(api, "DELETE", f"{path}/sessions/{session}")
