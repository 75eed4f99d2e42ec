"""What a real agent is doing: followed, waited for, ended; and its sessions, changed over HTTP."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chowder_local.client import Client
from chowder_local.testing.live import LiveInstance, LiveOrganization
from tests.e2e.copies import local
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("prompt_texts")]

PATIENCE_S = 180.0
SPAWN = {"call": "sessions_spawn", "arguments": {"task": "Look at the moon closely"}}
REPORT = {"match": {"text": "a background task"}, "reply": "They say it is cheese."}
FOUND = {"match": {"text": "look at the moon closely"}, "reply": "It is cheese."}
RESEARCH = {"match": {"text": "research the moon"}, "reply": [SPAWN, {"text": "They are at it."}]}
SLEEP = {
    "match": {"text": "take a nap"},
    "reply": [{"call": "exec", "arguments": {"command": "sleep 600"}}, {"text": "I am awake."}],
}


@pytest.fixture
def agent(server: ServerProcess, api: Api, instance: str) -> Iterator[LiveInstance]:
    """The shared agent; no script is left there, and nothing in progress."""
    with Client(server.base_url, server.key) as client:
        row = client.instance(instance)
        agent = LiveInstance(client, row, server.key, LiveOrganization(client, server.key))
        yield agent
        local(api, "DELETE", f"instances/{instance}/replies")
        agent.wait_idle(PATIENCE_S)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def scripted(agent: LiveInstance, *replies: Any) -> None:
    agent.client.set_replies({"replies": list(replies)}, agent.id)


@contextmanager
def followed(agent: LiveInstance) -> Iterator[list[dict[str, Any]]]:
    """The events of an agent in the block, as they come."""
    seen: list[dict[str, Any]] = []
    begun = threading.Event()

    def read() -> None:
        for event in agent.client.events(agent.id):
            seen.append(event)
            begun.set()
            if event["type"] == "budget.removed":
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        # An event shows that the stream has begun, and another one ends it.
        while not begun.wait(0.1):
            agent.client.set_budget("day", agent.id, model_calls=1000)
        seen.clear()
        yield seen
    finally:
        agent.client.remove_budget(agent.id)
        reader.join()


def test_a_turn_with_a_sub_agent_is_followed_and_waited_for(
    agent: LiveInstance,
) -> None:
    session = f"activity-{uuid4()}"
    scripted(agent, REPORT, FOUND, RESEARCH)
    after = agent.client.messages(agent.id)["after"]
    with followed(agent) as seen:
        assert agent.say("Please research the moon.", session) == "They are at it."
        agent.wait_idle(PATIENCE_S)
        # The report comes after the answer, and nobody gets it: here it is.
        (report,) = agent.client.messages(agent.id, after=after, session=session)["messages"]
        assert report["text"] == "They say it is cheese."
        eventually(lambda: [each for each in seen if each["type"] == "task.ended"], "the task ends")
    seen = [each for each in seen if not each["type"].startswith("budget.")]
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
    api: Api, agent: LiveInstance, threads: ThreadPoolExecutor, *, is_streamed: bool
) -> None:
    session = f"activity-{uuid4()}"
    scripted(agent, SLEEP)

    def send() -> httpx.Response:
        body = {"model": "gpt-4o", "input": "Please take a nap.", "stream": is_streamed}
        return api.post(f"instances/{agent.id}/session/{session}/responses", json=body)

    sent = threads.submit(send)
    (turn,) = eventually(
        lambda: [each for each in agent.activity()["turns"] if each["state"] == "running_tools"],
        "it runs",
    )
    assert (turn["tools"][0]["name"], turn["session"]) == ("exec", session)
    with pytest.raises(TimeoutError, match="sleep 600"):
        agent.wait_idle(0)
    assert agent.cancel(turn["trace_id"]) == [turn["trace_id"]]
    refused = sent.result()
    assert "turn_cancelled" in refused.text
    assert refused.status_code == 409
    agent.wait_idle(PATIENCE_S)
    scripted(agent, {"reply": "I am here."})
    assert agent.say("Are you?", session) == "I am here."


def test_a_sub_agent_is_shown_below_its_agent_and_ended_alone(
    agent: LiveInstance,
) -> None:
    session = f"activity-{uuid4()}"
    nap = {"match": {"text": "look at the moon closely"}, "reply": SLEEP["reply"]}
    scripted(agent, REPORT, nap, RESEARCH)
    assert agent.say("Please research the moon.", session) == "They are at it."
    (task,) = eventually(
        lambda: [each for each in agent.activity()["tasks"] if each["turns"]], "it is at it"
    )
    assert (task["kind"], task["status"]) == ("subagent", "running")
    eventually(lambda: agent.activity()["tasks"][0]["turns"][0]["tools"], "it runs a tool")
    assert agent.cancel(task["task_id"]) == [task["task_id"]]
    agent.wait_idle(PATIENCE_S)


def test_a_session_is_reset_compacted_and_removed(agent: LiveInstance) -> None:
    session = f"activity-{uuid4()}"
    client = agent.client
    assert "Turn 1" in agent.say("One.", session)
    assert "Turn 2" in agent.say("Two.", session)
    agent.reset_session(session)
    assert "Turn 1" in agent.say("Three.", session)
    compacted = client.compact_session(agent.id, session)
    assert compacted["is_compacted"] or compacted["reason"]
    assert client.abort_session(agent.id, session) == {"cancelled": []}
    client.delete_session(agent.id, session)
    assert session not in {each["name"] for each in client.sessions(agent.id)}
    assert "Turn 1" in agent.say("Four.", session)
    client.delete_session(agent.id, session)
