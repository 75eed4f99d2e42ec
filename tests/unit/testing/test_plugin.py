"""Errors of the pytest plugin's fixtures, and its summary."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from chowder_local.testing import plugin
from tests.e2e.plugin_runs import run

if TYPE_CHECKING:
    from pathlib import Path


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


CONFTEST = """
from types import SimpleNamespace
from chowder_local.testing.plugin import ORGANIZATION

def pytest_runtest_setup(item):
    waits = [("create", 8.0)] if "slow" in item.name else []
    item.config.stash[ORGANIZATION] = SimpleNamespace(instances=[], waits=waits)
"""


def test_a_run_that_waited_for_agents_says_so_and_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text("def test_slow(): pass\ndef test_other(): pass\n")
    waited = run(tmp_path, None, "-n", "1").stdout
    assert "create      1 x  median   8.00 s  total     8.0 s" in waited
    assert "raise CHOWDER_WARM_POOL_SIZE" in waited
    quick = run(tmp_path, None, "-k", "other").stdout
    assert "1 passed" in quick
    assert "waiting for agents" not in quick


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("(20, at_least=2)", "at_least should be above 0 and at most 1, not 2"),
        ('(20, isolation="session")', 'isolation="session" needs the fixture chowder_session'),
        ("(20, at_leat=1)", "write the marker as chowder_trials(20, at_least=0.9"),
    ],
)
def test_trials_that_no_verdict_could_come_of_are_refused_before_any_test(
    tmp_path: Path, marker: str, words: str
) -> None:
    test = f"import pytest\n@pytest.mark.chowder_trials{marker}\ndef test_it(): pass\n"
    (tmp_path / "test_mine.py").write_text(test)
    done = run(tmp_path, None)
    assert done.returncode == 4
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize("marker", ['replies("a.yaml", unusd="fail")', "recording()"])
def test_a_marker_with_other_arguments_is_refused_with_those_it_takes(
    tmp_path: Path, marker: str
) -> None:
    test = f"import pytest\n@pytest.mark.chowder_{marker}\ndef test_it(): pass\n"
    (tmp_path / "test_mine.py").write_text(test)
    said = run(tmp_path, None)
    assert said.returncode == 4
    assert "test_mine.py::test_it: write the marker as chowder_re" in said.stdout + said.stderr


UNSTARTED = """
import pytest
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.testing import live
from chowder_local.testing.plugin import ORGANIZATION

class Client:
    base_url = "http://127.0.0.1:1/v1"

    def create_instance(self, name):
        return {"id": "original", "name": name}

    def fork(self, instance_id, name):
        return {"id": "fork", "name": name}

    def wait_until_running(self, instance_id, on_status):
        if instance_id == "fork":
            raise BootFailed("No memory is left.")
        return {"id": instance_id, "name": "test", "created_at": "2026-11-30T00:00:00Z"}

    def instance(self, instance_id):
        return {"id": instance_id, "name": "test"}

    def model_calls(self, instance_id):
        return []

    def health(self):
        return {"places": None, "instances": {}, "hibernated": 0, "pool": {"size": 2}}

@pytest.fixture(scope="session")
def chowder_organization(request):
    organization = live.LiveOrganization(Client(), "key")
    request.config.stash[ORGANIZATION] = organization
    return organization

@pytest.fixture
def desk(chowder_organization):
    return chowder_organization.create_instance()

@pytest.mark.chowder_trials(3)
def test_it(desk):
    raise AssertionError("no trial begins")
"""


def test_trials_whose_forks_do_not_start_are_undecided(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(UNSTARTED)
    done = run(tmp_path, None)
    assert "undecided: its fork did not start: No memory is left." in done.stdout, done.stdout
    assert "3 undecided. At least 1 should pass. No trial has an outcome." in done.stdout
