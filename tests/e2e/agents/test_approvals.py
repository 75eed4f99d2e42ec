"""Commands of a real agent that wait for an approval."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.e2e.agents.local_channel import LocalChannel
from tests.e2e.copies import local
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

    Run = Callable[[str], Future[str]]

pytestmark = pytest.mark.docker


@contextmanager
def asking(api: Api, instance: str) -> Iterator[str]:
    """The path of an agent's policy, by which it asks before each command in the block."""
    path = f"instances/{instance}/approvals/policy"
    local(api, "PUT", path, json={"ask": "always"})
    yield path
    local(api, "PUT", path, json={"ask": "off", "security": "full", "allowlist": []})


@pytest.fixture
def policy(api: Api, instance: str) -> Iterator[str]:
    """The shared agent's, of `asking`."""
    with asking(api, instance) as path:
        yield path


def exec_call(command: str) -> dict[str, Any]:
    return {"call": "exec", "arguments": {"command": command}}


def script(api: Api, instance: str, command: str) -> None:
    """Has the agent run a command, whatever it is told."""
    reply = [exec_call(command), {"template": "It says: {{ result }}"}]
    local(api, "PUT", f"instances/{instance}/replies", json={"replies": [{"reply": reply}]})


@pytest.fixture
def run(api: Api, instance: str, policy: str) -> Iterator[Run]:
    """A function that has the agent run a command, and returns the answer once it is there."""

    def say(command: str) -> Future[str]:
        script(api, instance, command)
        return threads.submit(api.say, instance, "Go.", session=f"approvals-{uuid4()}")

    with ThreadPoolExecutor() as threads:
        yield say
    local(api, "DELETE", f"instances/{instance}/replies")


def waiting(api: Api, instance: str) -> dict[str, Any]:
    """The command that waits."""
    path = f"instances/{instance}/approvals"
    (found,) = eventually(lambda: local(api, "GET", path).json(), "a command waits")
    assert isinstance(found, dict)
    return found


def decide(api: Api, instance: str, decision: str) -> dict[str, Any]:
    found = waiting(api, instance)
    path = f"instances/{instance}/approvals/{found['id']}"
    local(api, "POST", path, json={"decision": decision})
    return found


def test_a_command_runs_once_it_is_allowed_and_not_if_it_is_denied(
    api: Api, instance: str, run: Run
) -> None:
    answer = run("date +%Y-%m")
    asked = decide(api, instance, "allow_once")
    assert asked["command"] == "date +%Y-%m"
    assert asked["session"].startswith("approvals-")
    assert re.fullmatch(r"It says: \d{4}-\d\d", answer.result())
    answer = run("date +%Y-%m")
    decide(api, instance, "deny")
    assert "user-denied" in answer.result()
    assert local(api, "GET", f"instances/{instance}/approvals").json() == []


def test_commands_of_a_sub_agent_and_of_the_turn_that_reports_its_result_wait_for_a_decision(
    api: Api, instance: str, policy: str
) -> None:
    commands = {"a background task": "hostname -s", "look at the moon closely": "date +%Y-%m"}
    spawn = {"call": "sessions_spawn", "arguments": {"task": "Look at the moon closely"}}
    replies = [
        {"match": {"text": text}, "reply": [exec_call(each), {"template": "It says: {{ result }}"}]}
        for text, each in commands.items()
    ]
    replies.append({"reply": [spawn, "They are at it."]})
    local(api, "PUT", f"instances/{instance}/replies", json={"replies": replies})
    messages = f"instances/{instance}/messages"
    after = local(api, "GET", messages).json()["after"]
    assert api.say(instance, "Go.", session=f"approvals-{uuid4()}") == "They are at it."
    for decision, text in (
        ("allow_once", "look at the moon closely"),
        ("deny", "a background task"),
    ):
        assert decide(api, instance, decision)["command"] == commands[text]

    def reports() -> list[str]:
        answer = local(api, "GET", f"{messages}?after={after}").json()
        return [each["text"] for each in answer["messages"]]

    (report,) = eventually(reports, "the result is reported")
    assert "user-denied" in report
    local(api, "DELETE", f"instances/{instance}/replies")


def has_run(api: Api, path: str, answer: re.Pattern[str]) -> bool:
    """Whether the latest run of a job has ended with such an answer."""
    return any(answer.fullmatch(each["answer"]) for each in local(api, "GET", path).json()[:1])


@pytest.mark.nightly
def test_a_job_runs_a_command_once_it_is_allowed_and_not_if_it_is_denied(
    api: Api, instance: str, policy: str
) -> None:
    script(api, instance, "date +%Y-%m")
    jobs = f"instances/{instance}/jobs"
    body = {"name": "report", "schedule": {"kind": "every", "every_s": 3_600}, "message": "Go."}
    job = local(api, "POST", jobs, json=body).json()["id"]
    for decision, said in (("allow_once", r"It says: \d{4}-\d\d"), ("deny", ".*user-denied.*")):
        local(api, "POST", f"{jobs}/{job}/run")
        assert decide(api, instance, decision)["session"] is None
        answer = re.compile(said, re.DOTALL)
        eventually(partial(has_run, api, f"{jobs}/{job}/runs", answer), "the job has run")
    local(api, "DELETE", f"{jobs}/{job}")
    local(api, "DELETE", f"instances/{instance}/replies")


@pytest.mark.nightly
def test_an_agent_in_a_messenger_tells_later_what_has_come_of_a_command(
    api: Api, patient: str
) -> None:
    channel = LocalChannel(api, patient, "telegram")
    channel.connect_offline()
    channel.say("Ada", "Hello.", approve=True)
    channel.script(
        {"match": {"text": "command the user already approved has completed"}, "reply": "It ran."},
        {"match": {"text": "command did not run"}, "reply": "It did not run."},
        {"reply": [{"call": "exec", "arguments": {"command": "hostname"}}, "It waits."]},
    )

    def is_said(text: str) -> bool:
        return text in [each["text"] for each in channel.messages()]

    with asking(api, patient):
        for decision, said in (("allow_once", "It ran."), ("deny", "It did not run.")):
            body = {"from": "Ada", "text": "Go."}
            assert api.post(f"{channel.path}/messages", json=body).status_code == 201
            decide(api, patient, decision)
            eventually(partial(is_said, said), said)
    channel.script()
    channel.disconnect()


@pytest.mark.nightly
def test_a_command_that_is_always_allowed_does_not_wait_again(
    api: Api, instance: str, run: Run, policy: str
) -> None:
    changed = {"ask": "on_miss", "security": "allowlist", "allowlist": [{"pattern": "cat"}]}
    assert local(api, "PUT", policy, json=changed).json()["ask"] == "on_miss"
    assert "It says" in run("cat /etc/hostname").result()
    answer = run("ls /etc/hostname")
    asked = decide(api, instance, "allow_always")
    assert asked["decisions"] == ["allow_once", "allow_always", "deny"]
    assert "/etc/hostname" in answer.result()
    assert "/etc/hostname" in run("ls /etc/hostname").result()
    patterns = [each["pattern"] for each in local(api, "GET", policy).json()["allowlist"]]
    assert {"cat", "/usr/bin/ls"} <= set(patterns)


@pytest.mark.nightly
def test_a_command_does_not_run_whose_message_was_cut_off_by_the_servers_death(
    api: Api, instance: str, run: Run, server: ServerProcess
) -> None:
    path = f"instances/{instance}/approvals"
    answer = run("touch cut-off")
    waiting(api, instance)
    server.kill()
    assert answer.exception() is not None
    server.up()
    eventually(lambda: local(api, "GET", path).json() == [], "nothing waits")
    files = api.get(f"instances/{instance}/files", params={"path": "workspace"}).json()
    assert "cut-off" not in str(files)
