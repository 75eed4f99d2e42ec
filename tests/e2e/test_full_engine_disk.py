"""Real agents on an engine whose disk is full: what is answered meanwhile, and what is left."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import CLAUDE, Api, responses_path
from tests.e2e.copies import ASKED, COLOUR, NOTES, copied, local, tell, write
from tests.e2e.second_engine import is_apart, run_apart, second_engine
from tests.e2e.serving import RECONCILE_INTERVAL, ServerProcess
from tests.e2e.small_disk import fill, small_disk
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

log = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.docker,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine"),
]

DISK_BYTES = 5_000_000_000
"""More than the sandbox image takes while it is loaded."""
FULL = 507
SETTINGS = {"CHOWDER_OFFLINE": "true"}
CONSTANTS = {RECONCILE_INTERVAL: 0.5}


def test_calls_on_a_full_disk_are_answered_with_words_and_all_heals_with_room(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not is_apart():
        run_apart(request)
        return
    with (
        small_disk(tmp_path, DISK_BYTES) as disk,
        second_engine(disk / "engine") as second,
        closing(second.client()) as client,
    ):
        server = ServerProcess(tmp_path / "data", SETTINGS | {"DOCKER_HOST": second.url}, CONSTANTS)
        with served(server, client, request.config), Api(server.base_url, server.key) as api:
            running, stopped = (api.created(name) for name in ("running", "stopped"))
            for each in (running, stopped):
                api.until(each, "running")
                tell(api, each, "code")
            api.stop(stopped)
            snapshot_id = local(api, "POST", f"instances/{running}/snapshots", json={}).json()["id"]
            fill(disk / "hog")
            acknowledged, made, problems = work(api, running, stopped, snapshot_id)
            (disk / "hog").unlink()
            heals(api, running, acknowledged)
            if api.status(stopped) == "stopped":
                api.start(stopped)
            assert COLOUR in eventually(lambda: answer_to(api, stopped, ASKED), "the other is back")
            for each in made:
                eventually(partial(has_ended, api, each), "its boot has ended")
                assert api.delete(f"instances/{each}").status_code == 204
            fork = copied(api, f"snapshots/{snapshot_id}/fork", json={"name": "fork"})
            assert (
                api.get(f"instances/{fork}/files/content?path={NOTES}").json()["content"] == "teal"
            )
            api.until(api.created("new"), "running")
            for row in api.get("instances").json():
                assert api.delete(f"instances/{row['id']}").status_code == 204
            assert problems == []


def work(
    api: Api, running: str, stopped: str, snapshot_id: str
) -> tuple[list[str], list[str], list[str]]:
    """Makes calls on the full disk: the messages answered, the agents made, and wrong answers.

    The client's time limit is the bound of each call.
    """
    acknowledged, made, problems = [], [], []

    def call(what: str, method: str, path: str, body: object = None) -> httpx.Response:
        answer = api.request(method, path, json=body)
        took_s = answer.elapsed.total_seconds()
        text = answer.content[:300].decode("utf-8", "replace")
        log.info("%s: %d in %.1f s: %s", what, answer.status_code, took_s, text)
        # Refused with words that name the disk, unless it succeeded.
        if not (answer.is_success or (answer.status_code == FULL and "space" in answer.text)):
            problems.append(f"{what}: {answer.status_code} {answer.text}")
        return answer

    agent = f"{root(api)}/instances/{running}"
    for number in range(3):
        text = f"Remember the number {number}."
        message = {"model": CLAUDE, "input": text}
        if call("message", "POST", responses_path(running), message).is_success:
            acknowledged.append(text)
        content = {"path": "workspace/large.md", "content": "x" * 500_000}
        call("file", "PUT", f"instances/{running}/files/content", content)
    call("snapshot", "POST", f"{agent}/snapshots", {})
    overrides = {"openclaw_config": {"logging.level": "debug"}}
    call("configuration", "PATCH", f"instances/{running}", overrides)
    job = {
        "name": "later",
        "schedule": {"kind": "every", "every_s": 3600},
        "message": "Look.",
    }
    call("job", "POST", f"{agent}/jobs", job)
    call("jobs", "GET", f"{agent}/jobs")
    call("policy", "PUT", f"{agent}/approvals/policy", {"ask": "off"})
    call("reset of a session", "POST", f"{agent}/sessions/code/reset")
    call("export", "GET", f"{agent}/export")
    for path, body in (
        (f"{root(api)}/snapshots/{snapshot_id}/fork", {"name": "forked"}),
        ("instances", {"name": "created"}),
    ):
        answer = call(path, "POST", path, body)
        if answer.is_success:
            made.append(answer.json()["id"])
    call("start", "POST", f"instances/{stopped}/start")
    call("health", "GET", f"{root(api)}/health")
    for each in made:
        row = eventually(partial(ended, api, each), "its boot has ended", 120)
        log.info("made: %s %s", row["status"], row["error_message"])
        if row["status"] != "running" and "space" not in row["error_message"]:
            problems.append(f"made: {row}")
    return acknowledged, made, problems


def has_ended(api: Api, instance_id: str) -> bool:
    """Whether it boots no longer."""
    return api.status(instance_id) in {"running", "error"}


def ended(api: Api, instance_id: str) -> dict[str, str] | None:
    """The instance, once its boot has ended or waits for room."""
    row: dict[str, str] = api.get(f"instances/{instance_id}").json()
    return row if row["status"] != "provisioning" or row["error_message"] else None


def heals(api: Api, instance_id: str, acknowledged: list[str]) -> None:
    """Waits until an agent answers; fails if it has lost a message."""
    assert "heard" in eventually(
        lambda: answer_to(api, instance_id, "Have you heard?"), "it answers", 240
    )
    turns = str(local(api, "GET", f"instances/{instance_id}/transcript").json()["turns"])
    for text in (COLOUR, *acknowledged):
        assert text in turns, turns
    write(api, instance_id, "teal")


def answer_to(api: Api, instance_id: str, text: str) -> str | None:
    """What an agent says, if it answers."""
    answer = api.message(instance_id, text)
    log.info("again: %d %s", answer.status_code, answer.text[:200])
    return answer.text if answer.is_success else None


def root(api: Api) -> str:
    return f"{str(api.base_url).removesuffix('/v1/')}/local"
