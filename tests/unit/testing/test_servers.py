"""The server that the environment of a test run names."""

from pathlib import Path

import pytest

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.testing.servers import Server

URL = {"CHOWDER_BASE_URL": "http://chowder-local:2469/v1/"}


def test_the_environment_names_a_server_by_url_and_key_or_key_file(tmp_path: Path) -> None:
    file = tmp_path / "default.key"
    file.write_text("chd_org_of_the_file\n")
    named = Server.from_environment(
        URL | {"CHOWDER_KEY": "chd_org_1", "CHOWDER_KEY_FILE": str(file)}
    )
    assert named == Server("http://chowder-local:2469/v1", "chd_org_1")
    named = Server.from_environment(URL | {"CHOWDER_KEY_FILE": str(file)})
    assert named == Server("http://chowder-local:2469/v1", "chd_org_of_the_file")


def test_a_server_needs_both_url_and_key() -> None:
    assert Server.from_environment(URL) is None
    assert (
        Server.from_environment({"CHOWDER_KEY": "chd_org_1", "CHOWDER_KEY_FILE": "/not/there"})
        is None
    )


def test_an_unreadable_key_file_is_an_error() -> None:
    with pytest.raises(SettingsInvalid, match="CHOWDER_KEY_FILE cannot be read"):
        Server.from_environment(URL | {"CHOWDER_KEY_FILE": "/not/there"})
