"""The clock of a real agent: what follows it, and jobs that run at their times."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.trials.golden import render
from tests.e2e.containers import container_of, inside
from tests.e2e.copies import local
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

START = "2027-03-26T22:00:00Z"
QUIET = {
    "plugins.entries.memory-core.config.dreaming.enabled": False,
    "skills.workshop.autonomous.mode": "off",
}
"""Without OpenClaw's own jobs, which are not the test's."""
PROGRAMS = (
    "date -u +%FT%TZ; "
    "python3 -c 'import sqlite3; "
    """print(sqlite3.connect(":memory:").execute("select datetime()").fetchone()[0])'; """
    "node -p 'new Date().toISOString()'"
)
SCRIPT = {
    "replies": [
        {
            "match": {"text": "What time is it"},
            "reply": [{"call": "exec", "arguments": {"command": PROGRAMS}}, "It is early."],
        },
        {
            "match": {"text": "Begin"},
            "reply": [
                {"call": "exec", "arguments": {"command": "sleep 900", "background": True}},
                "It runs.",
            ],
        },
    ]
}
JOB_SCRIPT = {
    "replies": [
        {
            "match": {"job": "long"},
            "reply": [{"call": "exec", "arguments": {"command": "sleep 8"}}, "Done."],
        },
        {
            "match": {"job": "research"},
            "reply": [{"call": "sessions_spawn", "arguments": {"task": "Look closely"}}, "Begun."],
        },
        {
            "match": {"text": "look closely"},
            "reply": [{"call": "exec", "arguments": {"command": "sleep 8"}}, "It is cheese."],
        },
        {"match": {"text": "a background task"}, "reply": "They say it is cheese."},
    ]
}


@pytest.fixture(scope="module")
def timely() -> list[str]:
    """The id of the module's agent and of its first snapshot, once they are made."""
    return []


@pytest.fixture
def agent(api: Api, timely: list[str]) -> str:
    """An agent whose clock stands at START from its first message on."""
    if not timely:
        instance_id = api.created("timely", openclaw_config=QUIET)
        # While it boots.
        set_clock(api, instance_id, at=START, frozen=True, seed=7)
        api.until(instance_id, "running")
        snapshot = local(api, "POST", f"instances/{instance_id}/snapshots", json={}).json()
        timely += [instance_id, snapshot["id"]]
    local(api, "PUT", f"instances/{timely[0]}/replies", json=SCRIPT)
    return timely[0]


@pytest.fixture(scope="module")
def movers() -> list[str]:
    """The id of the agent whose clock tests move on as they like, once it is made."""
    return []


@pytest.fixture
def mover(api: Api, movers: list[str]) -> str:
    """That agent, with a clock that goes on, and without jobs."""
    if not movers:
        movers.append(api.created("mover", openclaw_config=QUIET))
    (instance_id,) = movers
    api.until(instance_id, "running")
    path = f"instances/{instance_id}"
    for each in local(api, "GET", f"{path}/jobs").json():
        if each["kind"] == "user":
            local(api, "DELETE", f"{path}/jobs/{each['id']}")
    local(api, "PUT", f"{path}/replies", json=JOB_SCRIPT)
    return instance_id


def set_clock(api: Api, instance_id: str, **change: Any) -> dict[str, Any]:
    clock: dict[str, Any] = local(api, "PUT", f"instances/{instance_id}/clock", json=change).json()
    return clock


def advance(api: Api, instance_id: str, **how: Any) -> dict[str, Any]:
    moved: dict[str, Any] = local(
        api, "POST", f"instances/{instance_id}/clock/advance", json=how
    ).json()
    return moved


def call(api: Api, instance_id: str, method: str, **params: Any) -> dict[str, Any]:
    """A control call of the agent's gateway."""
    gateway = local(api, "GET", f"instances/{instance_id}/gateway").json()
    answer = httpx.post(
        f"{gateway['gateway_url']}/api/v1/admin/rpc",
        headers={"Authorization": f"Bearer {gateway['token']}"},
        json={"method": method, "params": params},
        timeout=60,
        trust_env=False,
    )
    assert answer.is_success, answer.text
    payload: dict[str, Any] = answer.json()["payload"]
    return payload


def add_job(api: Api, instance_id: str, name: str, schedule: dict[str, Any]) -> None:
    call(
        api, instance_id, "cron.add",
        name=name, schedule=schedule, enabled=True, sessionTarget="isolated", wakeMode="now",
        delivery={"mode": "none"}, payload={"kind": "agentTurn", "message": f"Do {name}."},
    )  # fmt: skip


def conversation(api: Api, instance_id: str) -> list[Any]:
    """Two sessions with tools, and the bodies of their model calls."""
    api.say(instance_id, "What time is it?")
    api.say(instance_id, "Begin to work.", session="other")
    api.say(instance_id, "Hello again.")
    calls = local(api, "GET", f"instances/{instance_id}/model-calls").json()
    latest = [each["id"] for each in calls[:5]]
    return [local(api, "GET", f"model-calls/{each}").json()["request"] for each in latest]


def golden(api: Api, instance_id: str) -> list[str]:
    """The golden transcripts of both sessions."""
    path = f"instances/{instance_id}"
    names = (f"{path}/transcript", f"{path}/sessions/other/transcript")
    return [render(local(api, "GET", each).json()["turns"]) for each in names]


def without_pids(request: Any) -> str:
    """The kernel gives them."""
    text = json.dumps(request)
    before, found, after = text.partition(", pid ")
    return before + found + after.lstrip("0123456789")


@pytest.mark.nightly
def test_a_second_run_is_the_same_and_jobs_run_once_each_at_their_times(
    api: Api, agent: str, timely: list[str], server: ServerProcess
) -> None:
    first, first_golden = conversation(api, agent), golden(api, agent)
    turns = local(api, "GET", f"instances/{agent}/transcript").json()["turns"]
    (result,) = [each["text"] for each in turns if each["role"] == "tool_result"]
    assert result.split() == [START, *START[:-1].split("T"), START.replace("Z", ".000Z")]
    assert {datetime.fromisoformat(each["at"]) for each in turns} == {datetime.fromisoformat(START)}
    local(api, "POST", f"instances/{agent}/restore", json={"snapshot_id": timely[1]})
    api.until(agent, "running")
    second = conversation(api, agent)
    assert [without_pids(each) for each in second] == [without_pids(each) for each in first]
    assert golden(api, agent) == first_golden
    assert "pid <number>" in first_golden[1]

    # The clock does not go back once there are jobs.
    zone = {"kind": "cron", "tz": "Europe/Berlin"}
    add_job(api, agent, "night", {**zone, "expr": "30 2 * * *"})
    add_job(api, agent, "monthly", {**zone, "expr": "0 12 31 * *"})
    set_clock(api, agent, frozen=False)
    # On March 28 there is no 02:30.
    moved = advance(api, agent, until="2027-03-29T22:00:00Z")
    assert [(each["job"], each["due_at"], each["outcome"]) for each in moved["runs"]] == [
        ("night", "2027-03-27T01:30:00Z", "ok"),
        ("night", "2027-03-29T00:30:00Z", "ok"),
    ]
    with ThreadPoolExecutor(1) as pool:
        cut_off = pool.submit(advance, api, agent, until="2027-04-01T22:00:00Z")
        eventually(lambda: len(runs(api, agent)) > len(moved["runs"]), "it moves on", 60)
        server.kill()
        assert isinstance(cut_off.exception(), httpx.TransportError)
    server.up()
    advance(api, agent, until="2027-04-01T22:00:00Z")
    assert runs(api, agent) == [
        ("night", "2027-03-27 01h"),
        ("night", "2027-03-29 00h"),
        ("night", "2027-03-30 00h"),
        ("night", "2027-03-31 00h"),
        ("monthly", "2027-03-31 10h"),
        ("night", "2027-04-01 00h"),
    ]


def test_a_job_that_falls_due_during_anothers_turn_is_among_the_runs(api: Api, mover: str) -> None:
    now = datetime.fromisoformat(local(api, "GET", f"instances/{mover}/clock").json()["now"])
    due = {"long": 3600, "meanwhile": 3602, "later": 7200}
    for name, after_s in due.items():
        at = (now + timedelta(seconds=after_s)).isoformat()
        add_job(api, mover, name, {"kind": "at", "at": at})
    moved = advance(api, mover, by="3h", limit=2)
    began = [
        (each["job"], round((datetime.fromisoformat(each["due_at"]) - now).total_seconds()))
        for each in moved["runs"]
    ]
    assert began == [("long", 3600), ("meanwhile", 3602)]
    assert not moved["has_arrived"]


@pytest.mark.nightly
def test_the_clock_waits_for_a_sub_agent_that_runs_a_tool(api: Api, mover: str) -> None:
    now = datetime.fromisoformat(local(api, "GET", f"instances/{mover}/clock").json()["now"])
    for name, after_h in {"research": 1, "next": 8}.items():
        at = (now + timedelta(hours=after_h)).isoformat()
        add_job(api, mover, name, {"kind": "at", "at": at})
    moved = advance(api, mover, by="9h")
    assert [each["job"] for each in moved["runs"]] == ["research", "next"]
    calls = local(api, "GET", f"instances/{mover}/model-calls").json()[::-1]
    keys = [each["session_key"] or "" for each in calls]
    of_helper = [number for number, key in enumerate(keys) if ":subagent:" in key]
    assert len(of_helper) == 2
    assert of_helper[-1] < keys.index(moved["runs"][-1]["session_key"])


def test_a_stop_amid_an_advance_ends_it_with_the_runs_so_far(api: Api, mover: str) -> None:
    now = datetime.fromisoformat(local(api, "GET", f"instances/{mover}/clock").json()["now"])
    for name, after_h in {"quick": 1, "long": 2}.items():
        at = (now + timedelta(hours=after_h)).isoformat()
        add_job(api, mover, name, {"kind": "at", "at": at})

    def runs_long() -> bool:
        listed = local(api, "GET", f"instances/{mover}/jobs").json()
        return any(each["name"] == "long" and each["running_since"] for each in listed)

    with ThreadPoolExecutor(1) as pool:
        path = f"../local/instances/{mover}/clock/advance"
        advancing = pool.submit(api.post, path, json={"by": "3h"})
        eventually(runs_long, "the second job runs")
        api.stop(mover)
        answer = advancing.result()
    api.start(mover)
    assert answer.status_code == 409, answer.text
    assert [each["job"] for each in answer.json()["runs"]] == ["quick"]


@pytest.mark.nightly
def test_a_jobs_history_has_the_runs_of_more_than_a_week(
    api: Api, mover: str, engine: docker.DockerClient
) -> None:
    path = f"instances/{mover}/jobs"
    schedule = {"kind": "every", "every_s": 5 * 86_400}
    job = {"name": "rare", "message": "Do it.", "schedule": schedule}
    job_id = local(api, "POST", path, json=job).json()["id"]
    moved = advance(api, mover, by="15d1h")
    # What OpenClaw does once a minute: it removes what is over for long.
    cleanup = inside(container_of(engine, api, mover), "openclaw tasks maintenance --apply")
    assert cleanup[0] == 0, cleanup
    noted = [each["began_at"] for each in local(api, "GET", f"{path}/{job_id}/runs").json()]
    assert noted[::-1] == [each["began_at"] for each in moved["runs"]]
    assert len(noted) == 3


@pytest.mark.nightly
def test_a_session_goes_on_after_months_of_the_clock(api: Api) -> None:
    instance_id = api.created("rested", openclaw_config=QUIET)
    api.until(instance_id, "running")
    for session in ("rested", "busy"):
        api.say(instance_id, "My number is 41.", session=session)
    advance(api, instance_id, by="2400h")
    # OpenClaw looks for old sessions when one is used.
    api.say(instance_id, "Hello again.", session="busy")
    for number in (1, 2, 3):
        assert api.say(instance_id, f"Message {number}.", session="rested")
    assert api.delete(f"instances/{instance_id}").status_code == 204


def runs(api: Api, instance_id: str) -> list[tuple[str, str]]:
    """The jobs that have run to their end, with the hours, as OpenClaw has noted them.

    A run that the end of the server breaks off fails, and half a minute later OpenClaw tries again.
    """
    noted = call(api, instance_id, "cron.runs", scope="all", limit=200)["entries"]
    return [
        (each["jobName"], f"{datetime.fromtimestamp(each['runAtMs'] / 1000, UTC):%Y-%m-%d %Hh}")
        for each in sorted(noted, key=lambda each: each["runAtMs"])
        if each["status"] == "ok"
    ]
