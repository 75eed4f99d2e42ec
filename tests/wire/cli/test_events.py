"""`events` against a scripted server."""

import json
from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f-6071", "name": "fish"}
AT = "2026-11-29T10:11:12.345+00:00"
LOST = {"type": "engine.lost", "at": AT}
QUEUED = {"type": "boot.queued", "at": AT, "instance_id": FISH["id"]}
RUNNING = {
    "type": "instance.status",
    "at": AT,
    "instance_id": FISH["id"],
    "status": "running",
    "error_message": None,
}


@pytest.fixture
def env(serve: Serve) -> dict[str, str]:
    def stream(*events: dict[str, Any]) -> bytes:
        return b": comment\n\n" + b"".join(
            f"id: {number}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            for number, event in enumerate(events)
        )

    own = f"GET /local/instances/{FISH['id']}/events"
    every = stream(LOST, QUEUED, RUNNING)
    answers = {"GET /v1/instances": [FISH], "GET /local/events": every}
    return serve({**answers, own: stream(QUEUED, RUNNING)})[0]


def test_each_event_is_a_line(env: dict[str, str], capsys: Output) -> None:
    assert run(["events"], env) == 0
    assert capsys.readouterr().out.splitlines() == [
        "10:11:12.345  -  engine.lost",
        "10:11:12.345  0a1b2c3d  boot.queued",
        "10:11:12.345  0a1b2c3d  instance.status  status=running",
    ]


def test_those_of_an_instance_and_a_type_are_chosen(env: dict[str, str], capsys: Output) -> None:
    assert run(["events", "fish", "--type", "instance", "--json"], env) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [RUNNING]
