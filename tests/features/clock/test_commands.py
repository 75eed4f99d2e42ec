"""`clock` against a scripted server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.cli.main import run

if TYPE_CHECKING:
    from tests.wire.cli.conftest import Output, Serve

LIST = "GET /v1/instances"
FISH = {"id": "0a1b2c3d-4e5f", "name": "fish", "status": "running"}
OF_FISH = "/local/instances/0a1b2c3d-4e5f"
CLOCK: dict[str, Any] = {
    "now": "2027-01-01T09:00:00Z",
    "offset_s": 3600.0,
    "is_frozen": False,
    "seed": 7,
    "warning": "Egress is on.",
}


def test_the_clock_is_shown_and_set(serve_answers: Serve, capsys: Output) -> None:
    frozen = CLOCK | {"is_frozen": True, "seed": None, "warning": None}
    env, requests = serve_answers({
        LIST: [FISH], f"GET {OF_FISH}/clock": CLOCK, f"PUT {OF_FISH}/clock": frozen
    })  # fmt: skip
    assert run(["clock", "show", "fish"], env) == 0
    printed, notes = capsys.readouterr()
    assert printed == "2027-01-01 09:00 (+3,600 s), goes on, seed 7\n"
    assert notes == "Egress is on.\n"
    assert run(["clock", "set", "fish", "--at", "2027-01-01T09:00+00:00", "--frozen"], env) == 0
    assert capsys.readouterr().out == "2027-01-01 09:00 (+3,600 s), stands still\n"
    call, body = requests[-1]
    assert (call, body["frozen"]) == (f"PUT {OF_FISH}/clock", True)
    assert run(["clock", "set", "fish", "--at", "tomorrow"], env) == 2


def test_the_clock_is_moved_on_with_the_runs_that_happened(
    serve_answers: Serve, capsys: Output
) -> None:
    runs = [
        {"began_at": "2027-01-01T09:00:00Z", "job": "report", "outcome": "ok", "error": None},
        {"began_at": "2027-01-01T10:00:00Z", "job": "tick", "outcome": "failed", "error": "No."},
    ]
    moved = CLOCK | {"runs": runs, "has_arrived": False}
    env, requests = serve_answers({LIST: [FISH], f"POST {OF_FISH}/clock/advance": moved})
    assert run(["clock", "advance", "fish", "25h"], env) == 0
    printed, notes = capsys.readouterr()
    assert printed.splitlines()[:2] == [
        "2027-01-01 09:00  report  ok", "2027-01-01 10:00  tick  failed: No."
    ]  # fmt: skip
    assert "It has not arrived" in notes
    assert requests[-1][1] == {"by": "25h", "limit": 1000}
    assert run(["clock", "advance", "fish", "--next-job", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == moved
    assert run(["clock", "advance", "fish", "25h", "--next-job"], env) == 2
    stopped = (409, {"detail": "Instance is stopped.", "runs": runs[:1]})
    env, _ = serve_answers({LIST: [FISH], f"POST {OF_FISH}/clock/advance": stopped})
    assert run(["clock", "advance", "fish", "25h"], env) == 1
    printed, notes = capsys.readouterr()
    assert printed == "2027-01-01 09:00  report  ok\n"
    assert "Instance is stopped." in notes
