"""Completion in a shell, against a scripted server."""

from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish"}
CRAB: dict[str, Any] = {"id": "1a1b2c3d-4e5f", "name": "crab"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str, capsys: Output) -> None:
    assert run(["completion", shell], {}) == 0
    assert f"_CHOWDER_LOCAL_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("chowder-local inst", ["plain,instances"]),
        ("chowder-local chat fi", ["plain,fish"]),
        ("chowder-local instances rm crab f", ["plain,fish"]),
        ("chowder-local chat x", []),
    ],
)
def test_commands_and_instances_are_completed(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
    line: str,
    completed: list[str],
) -> None:
    env, _ = serve({"GET /v1/instances": [FISH, CRAB]})
    monkeypatch.setenv("_CHOWDER_LOCAL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert run([], env) == 0
    assert capsys.readouterr().out.split() == completed


def test_without_a_server_nothing_is_completed_and_nothing_printed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    env, _ = serve({"GET /v1/instances": (401, {"detail": "Invalid API key."})})
    monkeypatch.setenv("_CHOWDER_LOCAL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "chowder-local chat f")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run([], env) == 0
    printed, notes = capsys.readouterr()
    assert (printed.strip(), notes) == ("", "")
