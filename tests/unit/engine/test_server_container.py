"""The path of the engine's socket for a server in a container; e2e tests the rest."""

import sys

import pytest

from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.server_container import engine_socket_path

USUAL = "/var/run/docker.sock"


@pytest.mark.parametrize(
    ("url", "platform", "path"),
    [
        ("unix:///run/user/1000/docker.sock", "linux", "/run/user/1000/docker.sock"),
        ("unix:///home/me/.docker/desktop/docker.sock", "linux", USUAL),
        ("unix:///Users/me/.colima/default/docker.sock", "darwin", USUAL),
        ("tcp://127.0.0.1:2375", "linux", USUAL),
    ],
)
def test_the_path_is_the_one_on_the_engines_own_machine(
    url: str, platform: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert engine_socket_path(EngineAddress(url, "a test"), {}) == path


def test_the_variable_of_testcontainers_overrides_the_path() -> None:
    env = {"TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": "/run/mine.sock"}
    assert engine_socket_path(EngineAddress("unix:///x", "a test"), env) == "/run/mine.sock"
