"""What seedings leave behind: keys with who seeds, a note of the messages with the agent."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.seeding import marker
from chowder_local.seeding.memory import KeptKey, KeptOrganization, Memory

if TYPE_CHECKING:
    from pathlib import Path


def test_keys_are_known_again_and_to_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    memory = Memory(file)
    assert memory.organizations == {}
    kept = KeptOrganization(id="o", key="chd_org_x", keys={"page": KeptKey(id="k", raw_key="x")})
    memory.organizations["kitchen"] = kept
    memory.write()
    assert Memory(file).organizations == {"kitchen": kept}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["{", "[]", '{"kitchen": {}}', '{"kitchen": 1}'])
def test_a_spoilt_memory_is_told_and_not_written_over(tmp_path: Path, content: str) -> None:
    file = tmp_path / "seed.json"
    file.write_text(content)
    with pytest.raises(DataDirUnusable, match="mend it, or remove it"):
        Memory(file)
    assert file.read_text() == content


def test_a_spoilt_memory_is_refused_without_quoting_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text('{"kitchen": {"id": "o", "key": ["chd_org_x"], "keys": {"page": "chd_sk_x"}}}')
    with pytest.raises(DataDirUnusable) as refused:
        Memory(file)
    assert "chd_" not in str(refused.value)


def test_a_marker_tells_what_was_sent() -> None:
    sent: marker.Sent = {None: ("a", "b"), "ticket/1": ("c",)}
    assert marker.parse(marker.serialize(sent)) == sent
    assert marker.parse(None) == {}


SPOILT = [b"", b"\xff", b"[]", b'{"sessions": [{}]}', b'{"sessions": 1}']


@pytest.mark.parametrize("content", SPOILT)
def test_a_spoilt_marker_is_no_empty_one(content: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        marker.parse(content)
