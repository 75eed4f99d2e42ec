"""The context of commands."""

import sys
from pathlib import Path

import pytest

from chowder_local.cli.context import Context
from chowder_local.cli.run_file import find_running
from chowder_local.core.errors.process import (
    DataDirUnusable,
    ServerElsewhere,
    ServerNotRunning,
    SettingsInvalid,
)


def test_an_option_wins_over_the_environment(tmp_path: Path) -> None:
    context = Context({"CHOWDER_PORT": "1111", "CHOWDER_DATA_DIR": "/x"}, tmp_path)
    assert context.settings().port == 1111
    assert context.with_settings({"port": 2222}).settings().port == 2222
    assert context.settings().data_dir == tmp_path


def test_the_key_is_the_one_in_the_key_file(tmp_path: Path) -> None:
    (tmp_path / "default.key").write_text("chd_org_x\n")
    assert Context({}, tmp_path).key() == "chd_org_x"


def test_before_the_first_start_there_is_no_key_and_no_server(tmp_path: Path) -> None:
    with pytest.raises(ServerNotRunning, match=r"127\.0\.0\.1:7"):
        Context({"CHOWDER_PORT": "7"}, tmp_path).key()
    with (
        pytest.raises(ServerNotRunning, match=r"127\.0\.0\.1:7"),
        Context({"CHOWDER_PORT": "7"}, tmp_path).client(),
    ):
        pass


def test_an_unreadable_key_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "default.key").mkdir()
    with pytest.raises(DataDirUnusable, match="cannot be read"):
        Context({}, tmp_path).key()


def test_a_client_talks_to_the_server_of_the_run_file(tmp_path: Path) -> None:
    (tmp_path / "default.key").write_text("k")
    (tmp_path / "server.json").write_text('{"pid": 1, "base_url": "http://h:1", "version": "1"}')
    with Context({}, tmp_path).client() as client:
        assert client.base_url == "http://h:1/v1"


def test_the_program_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "chowder-local"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert Context({"PATH": "/nope"}).program() == f"{tmp_path}/python -m chowder_local"
    script.touch(mode=0o755)
    assert Context({"PATH": "/nope"}).program() == str(script)
    assert Context({"PATH": str(tmp_path)}).program() == "chowder-local"


def test_the_program_command_contains_the_data_directory(tmp_path: Path) -> None:
    path = {"PATH": str(tmp_path)}
    (tmp_path / "chowder-local").touch(mode=0o755)
    message = f"chowder-local --data-dir '{tmp_path}/a b'"
    assert Context(path, tmp_path / "a b").program() == message
    assert Context({**path, "CHOWDER_DATA_DIR": f"{tmp_path}/a b"}).program() == message


RUNNING = '{"pid": 1, "base_url": "http://127.0.0.1:7", "version": "1"}'
NAMED = {"CHOWDER_BASE_URL": "http://other:5/v1/", "CHOWDER_KEY": "chd_org_other"}


def test_the_environments_server_and_key_win_over_its_data_directory_and_an_option_over_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "default.key").write_text("chd_org_own")
    (tmp_path / "server.json").write_text(RUNNING)
    env = {"CHOWDER_DATA_DIR": str(tmp_path), **NAMED}
    context = Context(env)
    assert (context.root_url(), context.key()) == ("http://other:5", "chd_org_other")
    for own in (Context(env, tmp_path), context.for_data_dir()):
        assert (own.root_url(), own.key()) == ("http://127.0.0.1:7", "chd_org_own")
    # The same server, with the key of another organization.
    named = Context({**env, "CHOWDER_BASE_URL": "http://localhost:7/v1"})
    assert (named.other_server(), named.root_url()) == (None, "http://127.0.0.1:7")
    assert named.key() == "chd_org_other"


def test_another_server_never_gets_the_data_directorys_key(tmp_path: Path) -> None:
    (tmp_path / "default.key").write_text("chd_org_own")
    named = {"CHOWDER_DATA_DIR": str(tmp_path), "CHOWDER_BASE_URL": "http://other:5/v1"}
    with pytest.raises(SettingsInvalid, match=r"http://other:5, but there is no key for it"):
        Context(named).key()
    file = tmp_path / "shared.key"
    file.write_text("chd_org_shared")
    assert Context({**named, "CHOWDER_KEY_FILE": str(file)}).key() == "chd_org_shared"


def test_a_server_that_has_ended_is_still_the_data_directorys_own(tmp_path: Path) -> None:
    (tmp_path / "server.json.last").write_text(RUNNING)
    env = {"CHOWDER_DATA_DIR": str(tmp_path), "CHOWDER_BASE_URL": "http://127.0.0.1:7/v1"}
    Context(env).require_local("reset")
    with pytest.raises(ServerElsewhere, match=r"names another server, http://127\.0\.0\.1:2469"):
        Context({**env, "CHOWDER_BASE_URL": "http://127.0.0.1:2469/v1"}).require_local("reset")


@pytest.mark.parametrize("url", ["other:5/v1", "http://", "http://[/v1", "ftp://other/v1"])
def test_an_invalid_base_url_is_refused(tmp_path: Path, url: str) -> None:
    env = {"CHOWDER_DATA_DIR": str(tmp_path), "CHOWDER_BASE_URL": url}
    with pytest.raises(SettingsInvalid, match="CHOWDER_BASE_URL is not a URL"):
        Context(env).root_url()


def test_the_base_url_of_a_server_in_a_container_is_its_public_url(
    tmp_path: Path,
) -> None:
    facts = RUNNING.replace("}", ', "public_url": "http://127.0.0.1:3000"}')
    (tmp_path / "server.json").write_text(facts)
    running = find_running(Context({}, tmp_path).settings())
    assert running is not None
    assert (running.root_url, running.base_url) == (
        "http://127.0.0.1:7",
        "http://127.0.0.1:3000/v1",
    )
