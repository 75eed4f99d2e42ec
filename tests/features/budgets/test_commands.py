"""`budget` against a scripted server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.cli.main import run

if TYPE_CHECKING:
    from tests.wire.cli.conftest import Output, Serve


def test_a_budget_is_set_shown_and_removed(serve_answers: Serve, capsys: Output) -> None:
    spent = {"usd": 1.25, "tokens": 310, "model_calls": 4}
    view = {
        "usd": 5, "tokens": None, "model_calls": None, "per": "day", "spent": spent,
        "reserved": dict.fromkeys(spent, 0), "since": "2026-05-04T00:00:00Z",
        "until": "2026-05-05T00:00:00Z", "refused_at": None, "message": None,
    }  # fmt: skip
    path = "/local/budget"
    env, requests = serve_answers(
        {f"PUT {path}": view, f"GET {path}": view, f"DELETE {path}": (204, b"")}
    )
    assert run(["budget", "set", "--usd", "5", "--per", "day"], env) == 0
    assert requests == [(f"PUT {path}", {"usd": 5.0, "per": "day"})]
    capsys.readouterr()
    assert run(["budget", "show"], env) == 0
    shown = capsys.readouterr().out
    assert "USD          1.2500 of 5 a day\n" in shown
    assert "2026-05-04 00:00, until 2026-05-05 00:00 (UTC)" in shown
    assert run(["budget", "rm"], env) == 0
    assert requests[-1][0] == f"DELETE {path}"


@pytest.mark.parametrize("usd", ["nan", "inf", "-1", "1e10"])
def test_a_budget_is_an_amount_of_usd(serve_answers: Serve, capsys: Output, usd: str) -> None:
    env, requests = serve_answers({})
    assert run(["budget", "set", "--usd", usd], env) == 2
    assert "Invalid value for '--usd'" in capsys.readouterr().err
    assert requests == []
