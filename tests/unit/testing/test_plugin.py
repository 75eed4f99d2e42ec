"""Errors of the pytest plugin's fixtures."""

import subprocess
import sys
from pathlib import Path

import pytest

from chowder_local.testing import plugin


def test_a_recording_without_its_marker_says_how_to_name_the_folder(
    request: pytest.FixtureRequest,
) -> None:
    with pytest.raises(pytest.fail.Exception, match=r'chowder_recording\("folder"\)'):
        plugin._recording_folder(request.node)


WAITING = """
import pytest
from chowder_local.testing import live, plugin

class Client:
    base_url = "http://127.0.0.1:1/v1"

    def create_instance(self, name):
        return {"id": "abc", "name": name}

    def wait_until_running(self, instance_id, on_status):
        on_status("provisioning, number 2 in the boot queue")
        return {"id": "abc", "name": "test", "created_at": "2026-11-30T00:00:00Z"}

@pytest.fixture
def boots(request, monkeypatch):
    monkeypatch.setattr(live, "MOMENT_S", 0.0)
    organization = live.LiveOrganization(Client(), "key")
    organization.say = plugin._saying(request.config)
    return organization.create_instance()

def test_passes(boots):
    pass
"""


def test_a_fixture_that_waits_says_so_past_the_capture_of_output(tmp_path: Path) -> None:
    (tmp_path / "test_waiting.py").write_text(WAITING)
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "test_waiting.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("chowder-local: ")]
    assert lines == [
        "chowder-local: test is provisioning",
        "chowder-local: test is provisioning, number 2 in the boot queue",
    ]
