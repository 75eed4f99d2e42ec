"""What a real engine says of itself, and what is said when there is none."""

import os

import docker
import pytest
from docker.errors import APIError

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import find_engine
from chowder_local.engine.engine_facts import ask_engine

pytestmark = pytest.mark.docker


def test_the_engine_tells_what_a_diagnosis_needs() -> None:
    facts = ask_engine(os.environ)
    assert facts.memory_bytes > 0
    assert facts.cpu_count > 0
    assert facts.root_dir.startswith("/")
    assert facts.version != "unknown"
    assert facts.address == find_engine(os.environ)


def test_an_engine_that_is_down_tells_nothing() -> None:
    with pytest.raises(EngineUnavailable):
        ask_engine({"DOCKER_HOST": "unix:///nowhere.sock"})


def test_an_engine_that_goes_in_the_middle_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: docker.DockerClient) -> None:
        raise APIError("gone")

    monkeypatch.setattr(docker.DockerClient, "info", gone)
    with pytest.raises(EngineUnavailable, match="could not report its state: gone"):
        ask_engine(os.environ)
