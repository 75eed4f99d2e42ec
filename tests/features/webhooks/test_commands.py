"""`hooks` and `inbox` against a scripted server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chowder_local.cli.main import run
from tests.wire.cli.test_messages import page

if TYPE_CHECKING:
    from tests.wire.cli.conftest import Output, Serve

LIST = "GET /v1/instances"
FISH = {"id": "0a1b2c3d-4e5f", "name": "fish", "status": "running"}
OF_FISH = "/local/instances/0a1b2c3d-4e5f"


def test_webhooks_are_sent_and_the_inbox_is_read(serve_answers: Serve, capsys: Output) -> None:
    webhook = {"at": "2026-12-01T09:00:00Z", "method": "POST", "path": "/orders", "query": "a=1",
               "body": "{}"}  # fmt: skip
    path = f"GET {OF_FISH}/inbox"
    env, requests = serve_answers({
        LIST: [FISH],
        f"{path}?after=0&wait_s=0.0&limit=100": page(webhook, after=1, member="webhooks"),
        f"{path}?after=1&wait_s=0.0&limit=100": page(after=1, member="webhooks"),
        f"POST {OF_FISH}/hooks/wake": {"status": 200, "answer": {"ok": True}},
    })  # fmt: skip
    assert run(["inbox", "ls", "fish", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == webhook
    assert run(["inbox", "ls", "fish"], env) == 0
    assert capsys.readouterr().out == "2026-12-01 09:00:00  POST /orders?a=1\n{}\n"
    assert run(["hooks", "send", "fish", "wake", '{"text": "Up!"}'], env) == 0
    assert requests[-1] == (f"POST {OF_FISH}/hooks/wake", {"text": "Up!"})
    assert run(["hooks", "send", "fish", "wake", "Up!"], env) == 2
