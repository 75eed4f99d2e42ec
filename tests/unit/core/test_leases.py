"""Leases of what a process has made: seen to be abandoned once that is no more."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from chowder_local.core import leases
from chowder_local.core.leases import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from chowder_local.core.leases import Lease
lease = Lease.take(Path(sys.argv[1]), {"name": "pytest", "key": "chd_org_1"})
print("taken", flush=True)
input()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with a lease, for as long as it is not killed."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "leases")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_a_lease_is_abandoned_when_its_process_was_killed(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    folder = tmp_path / "leases"
    own = Lease.take(folder, {"name": "ours"})
    assert list(leases.abandoned(folder)) == []
    holder.kill()
    holder.wait()
    (found,) = leases.abandoned(folder)
    assert (found.facts["name"], found.facts["key"]) == ("pytest", "chd_org_1")
    assert found.path.stat().st_mode & 0o077 == folder.stat().st_mode & 0o077 == 0
    found.end()
    assert list(leases.abandoned(folder)) == []
    own.end()
    assert list(folder.iterdir()) == []


def test_a_folder_without_leases_or_with_something_else_has_none(tmp_path: Path) -> None:
    assert list(leases.abandoned(tmp_path / "nowhere")) == []
    (tmp_path / "notes.json").write_text("no JSON")
    assert list(leases.abandoned(tmp_path)) == []
