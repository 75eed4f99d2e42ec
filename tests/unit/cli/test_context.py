"""What commands are given."""

import sys
from pathlib import Path

import pytest

from chowder_local.cli.context import Context
from chowder_local.errors.process import DataDirUnusable, ServerNotRunning


def test_an_option_wins_over_the_environment(tmp_path: Path) -> None:
    context = Context({"CHOWDER_PORT": "1111", "CHOWDER_DATA_DIR": "/x"}, tmp_path)
    assert context.settings().port == 1111
    assert context.settings(port=2222).port == 2222
    assert context.settings().data_dir == tmp_path


def test_the_key_is_the_one_in_the_key_file(tmp_path: Path) -> None:
    (tmp_path / "default.key").write_text("chd_org_x\n")
    assert Context({}, tmp_path).key() == "chd_org_x"


def test_before_the_first_start_there_is_no_key_and_no_server(tmp_path: Path) -> None:
    with pytest.raises(ServerNotRunning, match=r"127\.0\.0\.1:7"):
        Context({"CHOWDER_PORT": "7"}, tmp_path).key()
    with pytest.raises(ServerNotRunning, match=r"127\.0\.0\.1:7"):
        Context({"CHOWDER_PORT": "7"}, tmp_path).client()


def test_a_key_that_cannot_be_read_is_said_to(tmp_path: Path) -> None:
    (tmp_path / "default.key").mkdir()
    with pytest.raises(DataDirUnusable, match="cannot be read"):
        Context({}, tmp_path).key()


def test_a_client_talks_to_the_server_of_the_run_file(tmp_path: Path) -> None:
    (tmp_path / "default.key").write_text("k")
    (tmp_path / "server.json").write_text('{"pid": 1, "base_url": "http://h:1", "version": "1"}')
    with Context({}, tmp_path).client() as client:
        assert client.base_url == "http://h:1/v1"


def test_the_program_is_called_as_it_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "chowder-local"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert Context({"PATH": "/nope"}).program() == f"{tmp_path}/python -m chowder_local"
    script.touch(mode=0o755)
    assert Context({"PATH": "/nope"}).program() == str(script)
    assert Context({"PATH": str(tmp_path)}).program() == "chowder-local"


def test_a_chosen_data_directory_is_part_of_what_is_pasted(tmp_path: Path) -> None:
    path = {"PATH": str(tmp_path)}
    (tmp_path / "chowder-local").touch(mode=0o755)
    words = f"chowder-local --data-dir '{tmp_path}/a b'"
    assert Context(path, tmp_path / "a b").program() == words
    assert Context({**path, "CHOWDER_DATA_DIR": f"{tmp_path}/a b"}).program() == words
