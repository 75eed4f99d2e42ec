"""`dashboard`: a sign-in link whose code a browser does not send."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from chowder_local.accounts.keys import LINK_LIFE_S
from chowder_local.cli.main import run
from chowder_local.core.secrets import SecretBox

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.wire.cli.conftest import Output

    Serve = Callable[[dict[str, Any]], tuple[dict[str, str], list[Any]]]


def test_the_link_has_a_code_behind_the_hash_and_no_key(serve: Serve, capsys: Output) -> None:
    env, requests = serve({})
    assert run(["dashboard"], env) == 0
    address, _, code = capsys.readouterr().out.strip().partition("#code=")
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/sign-in")
    assert "chd_org_k" not in code
    secret_box = SecretBox.load(Path(env["CHOWDER_DATA_DIR"]) / "secret.key")
    content = secret_box.decrypt_link(code, "dashboard", datetime.now(UTC), LINK_LIFE_S)
    assert content is not None
    assert "chd_org_k" not in str(content)
    assert requests == []


def test_no_two_links_are_the_same(serve: Serve, capsys: Output) -> None:
    env, _ = serve({})
    for _ in range(2):
        run(["dashboard"], env)
    first, second = capsys.readouterr().out.splitlines()
    assert first != second


@pytest.mark.parametrize(("code", "message"), [(0, ""), (1, "open the link yourself")])
def test_the_link_is_opened_with_the_option(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    opened: list[str] = []

    def launch(address: str) -> int:
        opened.append(address)
        return code

    monkeypatch.setattr(click, "launch", launch)
    env, _ = serve({})
    assert run(["dashboard", "--open"], env) == 0
    said = capsys.readouterr()
    assert opened == [said.out.strip()]
    assert message in said.err


def test_without_a_server_there_is_nothing_to_open(tmp_path: Path, capsys: Output) -> None:
    assert run(["dashboard"], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 1
    assert "up --detach" in capsys.readouterr().err
