"""The configuration that an agent takes over from another one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.openclaw.config import agent_config, edits


def seed(name: str, **more: Any) -> dict[str, Any]:
    return agent_config.initial_config(
        gateway_token=f"gateway-{name}",
        relay_url=f"http://relay.local/{name}",
        relay_token=f"relay-{name}",
        provider=ModelProvider.ANTHROPIC,
        **more,
    )


def test_a_configuration_is_read_without_reserved_paths() -> None:
    mine = {"agents.defaults.thinkingDefault": "off", "channels.telegram.botToken": "b"}
    parsed = agent_config.read_config(
        agent_config.serialize_config(seed("old", overrides=mine) | {"meta": {"a": 1}})
    )
    assert parsed is not None
    assert "old" not in json.dumps(parsed)
    assert parsed["agents"]["defaults"]["thinkingDefault"] == "off"
    assert parsed["channels"] == {"telegram": {"botToken": "b"}}
    assert not {"gateway", "meta"} & set(parsed)
    assert parsed["plugins"]["entries"].keys() == {"memory-core"}
    assert "providers" not in parsed["models"]


def test_with_the_initial_configuration_it_is_complete_again() -> None:
    parsed = agent_config.read_config(
        agent_config.serialize_config(seed("old", overrides={"logging.level": "debug"}))
    )
    assert parsed is not None
    whole = agent_config.with_reserved(seed("new"), parsed)
    assert whole == seed("new", overrides={"logging.level": "debug"})


def test_a_configuration_that_says_nothing_of_sessions_gets_their_limits() -> None:
    parsed = agent_config.read_config(
        agent_config.serialize_config(seed("old", overrides={"session": None}))
    )
    assert parsed is not None
    assert agent_config.with_reserved(seed("new"), parsed) == seed("new")
    own = {"session": {"maintenance": {"maxEntries": 7}}}
    whole = agent_config.with_reserved(seed("new"), parsed | own)
    assert whole["session"]["maintenance"]["maxEntries"] == 7


def test_a_removed_initial_setting_does_not_come_back() -> None:
    parsed = agent_config.read_config(
        agent_config.serialize_config(seed("old", overrides={"memory": None}))
    )
    assert parsed is not None
    assert "memory" not in agent_config.with_reserved(seed("new"), parsed)


@pytest.mark.parametrize(
    "content", [None, b"", b"{ a: 1 }", b"[]", b"\xff", b"[" * 5000, b'{"a":' * 300 + b"1"]
)
def test_a_broken_configuration_is_not_read(content: bytes | None) -> None:
    assert agent_config.read_config(content) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"gateway": {"auth": {"token": "mine"}}},
        {"models": {"providers": {"chowder-openai": {"baseUrl": "http://evil"}}}},
        {"env": {"vars": {"NODE_OPTIONS": "--inspect"}}},
        {"plugins": {"enabled": False, "deny": ["admin-http-rpc"], "load": {"paths": ["x"]}}},
        {"channels": {"telegram": {"webhookPath": "/v1/x"}}},
    ],
)
def test_reserved_paths_are_not_taken_over(settings: dict[str, Any]) -> None:
    assert edits.without_reserved(settings) == {}
    assert agent_config.with_reserved(
        seed("new"), edits.without_reserved(settings)
    ) == agent_config.with_reserved(seed("new"), {})


def test_a_forks_channels_are_disabled() -> None:
    settings = {
        "channels": {
            "telegram": {"enabled": True, "botToken": "b"},
            "discord": {"token": "d"},
            "defaults": {"x": 1},
            "odd": 1,
        }
    }
    assert agent_config.with_channels_disabled(settings)["channels"] == {
        "telegram": {"enabled": False, "botToken": "b"},
        "discord": {"enabled": False, "token": "d"},
        "defaults": {"x": 1},
        "odd": 1,
    }
    assert settings["channels"]["telegram"] == {"enabled": True, "botToken": "b"}
    assert agent_config.with_channels_disabled({"a": 1}) == {"a": 1}


def test_possible_credentials_are_not_exported() -> None:
    settings = {
        "channels": {"telegram": {"botToken": "secret"}},
        "env": {"K": "secret"},
        "skills": {
            "entries": {"weather": {"enabled": True, "apiKey": "secret", "env": {"K": "s"}}}
        },
        "models": {"providers": {"mine": {"models": [{"id": "m", "maxTokens": 5}], "apiKey": "s"}}},
        "mcp": {"servers": [{"url": "http://x", "headers": {"A": "secret"}, "authorization": "s"}]},
        "logging": {"level": "debug"},
    }
    assert agent_config.portable(settings) == {
        "skills": {"entries": {"weather": {"enabled": True}}},
        "models": {"providers": {"mine": {"models": [{"id": "m", "maxTokens": 5}]}}},
        "mcp": {"servers": [{"url": "http://x"}]},
        "logging": {"level": "debug"},
    }
