"""`messages` against a scripted server."""

from typing import Any

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

LIST = "GET /v1/instances"
FISH = {"id": "0a1b2c3d-4e5f", "name": "fish", "status": "running"}
OF_FISH = "/local/instances/0a1b2c3d-4e5f"


def page(*entries: dict[str, Any], after: int, member: str = "messages") -> dict[str, Any]:
    return {member: list(entries), "after": after, "is_incomplete": after == 2}


def test_messages_are_printed_and_waited_for(serve: Serve, capsys: Output) -> None:
    message = {"at": "2026-12-01T09:00:00Z", "job": "report", "kind": "job", "session": "desk",
               "text": "Written."}  # fmt: skip
    path = f"GET {OF_FISH}/messages"
    env, _ = serve({
        LIST: [FISH],
        f"{path}?after=0&wait_s=0.0&limit=100": page(message, after=2),
        f"{path}?after=2&wait_s=0.0&limit=100": page(after=3),
    })  # fmt: skip
    assert run(["messages", "fish"], env) == 0
    printed, notes = capsys.readouterr()
    assert printed == "2026-12-01 09:00:00  report in desk\nWritten.\n"
    assert "not kept any more" in notes
    assert run(["messages", "fish", "--wait", "--timeout", "0"], env) == 1
    assert "Nothing came within 0 s." in capsys.readouterr().err
