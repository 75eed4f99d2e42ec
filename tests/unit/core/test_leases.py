"""A lease is abandoned once its process has ended."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from chowder_local.core import data_dir
from chowder_local.core.data_dir import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from chowder_local.core.data_dir import Lease
lease = Lease.take(Path(sys.argv[1]), {"name": "pytest", "key": "chd_org_1"})
print("taken", flush=True)
input()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with a lease, until a test kills it."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "leases")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_the_lease_of_a_killed_process_is_abandoned(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    folder = tmp_path / "leases"
    own = Lease.take(folder, {"name": "ours"})
    assert list(data_dir.abandoned_leases(folder)) == []
    holder.kill()
    holder.wait()
    (lease,) = data_dir.abandoned_leases(folder)
    assert (lease.facts["name"], lease.facts["key"]) == ("pytest", "chd_org_1")
    assert lease.path.stat().st_mode & 0o077 == folder.stat().st_mode & 0o077 == 0
    lease.end()
    assert list(data_dir.abandoned_leases(folder)) == []
    own.end()
    assert list(folder.iterdir()) == []


def test_a_missing_folder_or_one_with_other_files_has_no_leases(tmp_path: Path) -> None:
    assert list(data_dir.abandoned_leases(tmp_path / "nowhere")) == []
    (tmp_path / "notes.json").write_text("no JSON")
    assert list(data_dir.abandoned_leases(tmp_path)) == []
