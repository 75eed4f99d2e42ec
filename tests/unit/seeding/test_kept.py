"""The memory of seedings, and the marker in an agent's home."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.seeding.target import (
    Memory,
    Sent,
    StoredKey,
    StoredOrganization,
    parse_marker,
    serialize_marker,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_keys_are_stored_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    memory = Memory(file)
    assert memory.organizations == {}
    keys = {"page": StoredKey(id="k", raw_key="x")}
    stored = StoredOrganization(id="o", key="chd_org_x", keys=keys)
    memory.organizations["kitchen"] = stored
    memory.write()
    assert Memory(file).organizations == {"kitchen": stored}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["{", "[]", '{"kitchen": {}}', '{"kitchen": 1}'])
def test_an_invalid_memory_is_an_error_and_not_overwritten(tmp_path: Path, content: str) -> None:
    file = tmp_path / "seed.json"
    file.write_text(content)
    with pytest.raises(DataDirUnusable, match="Correct it, or remove it"):
        Memory(file)
    assert file.read_text() == content


def test_the_error_of_an_invalid_memory_quotes_no_key(tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text('{"kitchen": {"id": "o", "key": ["chd_org_x"], "keys": {"page": "chd_sk_x"}}}')
    with pytest.raises(DataDirUnusable) as refused:
        Memory(file)
    assert "chd_" not in str(refused.value)


def test_a_marker_keeps_the_digests_of_sent_messages() -> None:
    sent: Sent = {None: ("a", "b"), "ticket/1": ("c",)}
    assert parse_marker(serialize_marker(sent)) == sent
    assert parse_marker(None) == {}


SPOILT = [b"", b"\xff", b"[]", b'{"sessions": [{}]}', b'{"sessions": 1}']


@pytest.mark.parametrize("content", SPOILT)
def test_an_invalid_marker_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        parse_marker(content)
