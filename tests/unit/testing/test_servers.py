"""Which server a run of tests finds by its environment."""

from pathlib import Path

import pytest

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.testing.servers import Server

URL = {"CHOWDER_BASE_URL": "http://chowder-local:2469/v1/"}


def test_one_is_named_by_its_address_and_a_key_or_the_file_that_has_it(tmp_path: Path) -> None:
    file = tmp_path / "default.key"
    file.write_text("chd_org_of_the_file\n")
    named = Server.named(URL | {"CHOWDER_KEY": "chd_org_1", "CHOWDER_KEY_FILE": str(file)})
    assert named == Server("http://chowder-local:2469/v1", "chd_org_1")
    named = Server.named(URL | {"CHOWDER_KEY_FILE": str(file)})
    assert named == Server("http://chowder-local:2469/v1", "chd_org_of_the_file")


def test_without_both_none_is_named() -> None:
    assert Server.named(URL) is None
    assert Server.named({"CHOWDER_KEY": "chd_org_1", "CHOWDER_KEY_FILE": "/not/there"}) is None


def test_a_file_that_cannot_be_read_is_no_reason_to_take_another_server() -> None:
    with pytest.raises(SettingsInvalid, match="CHOWDER_KEY_FILE cannot be read"):
        Server.named(URL | {"CHOWDER_KEY_FILE": "/not/there"})
