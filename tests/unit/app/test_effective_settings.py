"""Comparing the settings of a running server with requested ones."""

import json
from pathlib import Path

import pytest

from chowder_local.app.effective_settings import effective_settings, mismatches
from chowder_local.core.settings import Settings

URL = "https://me:hidden-1@models.example"
STARTED = {
    "CHOWDER_WARM_POOL_SIZE": "1",
    "CHOWDER_OFFLINE": "off",
    "CHOWDER_ALLOWED_HOSTS": "a.example,b.example",
    "CHOWDER_PROVIDERS": "lab=http://lab.example/v1",
    "CHOWDER_OPENAI_BASE_URL": URL,
    "ANTHROPIC_API_KEY": "hidden-2",
    "LAB_API_KEY": "hidden-3",
    "OLLAMA_HOST": "gpu.example",
    "DOCKER_HOST": "unix:///run/engine.sock",
}


def read_back(env: dict[str, str]) -> dict[str, object]:
    """The settings as a run file stores them."""
    values = effective_settings(
        Settings.read(env),
        env,
        image="image:1",
        engine_url=env.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
        salt="salt",
    )
    stored: dict[str, object] = json.loads(json.dumps(values))
    return stored


def differences(env: dict[str, str], started: dict[str, str]) -> list[str]:
    return list(mismatches(Settings.read(env), env, read_back(started)))


def test_equal_settings_and_settings_that_are_not_requested_match() -> None:
    assert differences(STARTED, STARTED) == []
    assert differences({}, STARTED) == []
    assert differences({"CHOWDER_TIER": "crab", "CHOWDER_MAX_SANDBOXES": "3"}, STARTED) == [
        "CHOWDER_MAX_SANDBOXES is not set, not 3"
    ]


def test_no_secret_is_stored_or_shown() -> None:
    assert "hidden" not in json.dumps(read_back(STARTED))
    others = {name: value.replace("hidden", "veiled") for name, value in STARTED.items()}
    sentences = differences(others, STARTED)
    names = ("CHOWDER_OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "LAB_API_KEY")
    assert sentences == [f"{name} is not what the server was started with" for name in names]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CHOWDER_OFFLINE", "on", "is off, not on"),
        ("CHOWDER_ALLOWED_HOSTS", "a.example", "is a.example,b.example, not a.example"),
        (
            "CHOWDER_PROVIDERS",
            "lab=http://b.example/v1",
            "is lab=http://lab.example/v1, not lab=http://b.example/v1",
        ),
        ("OLLAMA_HOST", "other.example", "is not what the server was started with"),
        ("DOCKER_HOST", "unix:///other.sock", "is unix:///run/engine.sock, not unix:///other.sock"),
        ("OPENAI_API_KEY", "sk-x", "is not what the server was started with"),
    ],
)
def test_a_different_setting_is_named_with_both_values(name: str, value: str, words: str) -> None:
    assert differences({name: value}, STARTED) == [f"{name} {words}"]


def test_keys_are_not_compared_if_all_models_are_offline() -> None:
    env = {"CHOWDER_OFFLINE": "on", "OPENAI_API_KEY": "sk-x"}
    assert differences(env, {"CHOWDER_OFFLINE": "on"}) == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_that_has_changed_since_the_start_is_named(tmp_path: Path, is_folder: bool) -> None:
    name = "CHOWDER_REPLAY" if is_folder else "CHOWDER_REPLIES"
    path = tmp_path / "given"
    if is_folder:
        path.mkdir()
    file = path / "0001.json" if is_folder else path
    file.write_text("one")
    env = {name: str(path)}
    running = read_back(env)
    assert list(mismatches(Settings.read(env), env, running)) == []
    file.write_text("two")
    sentences = list(mismatches(Settings.read(env), env, running))
    assert sentences == [f"{name} has changed since the server read it"]
    file.unlink()
    assert list(mismatches(Settings.read(env), env, running)) == sentences
