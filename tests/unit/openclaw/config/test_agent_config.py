"""An agent's initial configuration, and a user's overrides."""

import json
from typing import Any

import pytest

from chowder_local.core.domain import RELAY_HOSTNAME, ModelProvider
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.openclaw.config.agent_config import (
    apply_change,
    initial_config,
    merged,
    serialize_config,
    to_merge_patch,
)

RELAY = "http://relay.local:2470"


def seeded(
    provider: ModelProvider = ModelProvider.ANTHROPIC, overrides: dict[str, Any] | None = None
) -> dict[str, Any]:
    return initial_config(
        gateway_token="gateway-token",
        relay_url=RELAY,
        relay_token="relay-token",
        provider=provider,
        overrides=overrides,
    )


def test_the_gateway_asks_for_its_own_token_and_answers_responses() -> None:
    gateway = seeded()["gateway"]
    assert gateway["auth"] == {"mode": "token", "token": "gateway-token"}
    assert gateway["http"]["endpoints"]["responses"]["enabled"] is True
    assert gateway["controlUi"]["enabled"] is False


def test_every_provider_is_reached_through_the_relay_in_its_own_wire_format() -> None:
    providers = seeded()["models"]["providers"]
    assert {name: (each["api"], each["baseUrl"]) for name, each in providers.items()} == {
        "chowder-anthropic": ("anthropic-messages", f"{RELAY}/anthropic"),
        "chowder-openai": ("openai-responses", f"{RELAY}/openai"),
        "chowder-gemini": ("google-generative-ai", f"{RELAY}/gemini"),
        # Always present, so that a blank agent does not depend on custom providers.
        "chowder-other": ("openai-completions", f"{RELAY}/other"),
    }
    assert {each["apiKey"] for each in providers.values()} == {"relay-token"}


def test_openclaws_own_jobs_are_off_unless_they_are_wanted() -> None:
    assert seeded()["skills"] == {"workshop": {"autonomous": {"mode": "off"}}}
    assert "memory-core" in seeded()["plugins"]["entries"]
    wanted = initial_config(
        gateway_token="",
        relay_url=RELAY,
        relay_token="",
        provider=ModelProvider.OPENAI,
        has_system_jobs=True,
    )
    assert "skills" not in wanted
    assert wanted["plugins"]["entries"].keys() == {"admin-http-rpc"}


def test_a_model_call_has_no_timeout_in_openclaw() -> None:
    # A timeout of ten minutes kept each turn's data until the heap was full.
    seed = seeded()
    assert all("timeoutSeconds" not in each for each in seed["models"]["providers"].values())
    # Without one, OpenClaw gives up a silent model after 2 min, unless its host ends with `.local`.
    assert RELAY_HOSTNAME.endswith(".local")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        (ModelProvider.ANTHROPIC, "chowder-anthropic/claude-sonnet-4-20250514"),
        (ModelProvider.OPENAI, "chowder-openai/gpt-4o"),
        (ModelProvider.GEMINI, "chowder-gemini/gemini-2.0-flash"),
    ],
)
def test_the_instances_provider_has_the_default_model(provider: ModelProvider, model: str) -> None:
    assert seeded(provider)["agents"]["defaults"]["model"] == {"primary": model}


def test_an_agent_makes_no_unrequested_model_calls() -> None:
    config = seeded()
    assert config["agents"]["defaults"]["utilityModel"] == ""
    assert config["agents"]["defaults"]["heartbeat"] == {"every": "0m"}
    assert config["memory"]["search"]["provider"] == "none"


def test_a_clients_function_tools_are_not_hidden_behind_openclaws_tool_search() -> None:
    assert seeded()["tools"] == {"toolSearch": {"mode": "directory"}}


def test_overrides_change_only_their_settings() -> None:
    config = seeded(overrides={"agents.defaults.thinkingDefault": "off", "logging": {"level": "x"}})
    assert config["agents"]["defaults"] == {
        **seeded()["agents"]["defaults"],
        "thinkingDefault": "off",
    }
    assert config["logging"] == {"level": "x"}


def test_a_null_override_removes_an_initial_setting() -> None:
    config = seeded(overrides={"agents.defaults.heartbeat": None, "nothing.there": None})
    assert "heartbeat" not in config["agents"]["defaults"]
    assert config["nothing"] == {}


@pytest.mark.parametrize(
    ("overrides", "nested"),
    [
        ({}, {}),
        ({"a.b.c": 1}, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1}, "a.c": 2}, {"a": {"b": 1, "c": 2}}),
        ({"a.b": 1, "a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a.b": {"c": 1}, "a.b.d": 2}, {"a": {"b": {"c": 1, "d": 2}}}),
        ({"a": 1, "a.b": 2}, {"a": {"b": 2}}),
        ({"a.b": None}, {"a": {"b": None}}),
        ({"a": [1, {"b.c": 2}]}, {"a": [1, {"b.c": 2}]}),
        ({"models": {"x.y/z-1.5": {"on": True}}}, {"models": {"x.y/z-1.5": {"on": True}}}),
    ],
)
def test_dot_paths_and_nested_objects_become_one_patch_in_their_order(
    overrides: dict[str, Any], nested: dict[str, Any]
) -> None:
    assert to_merge_patch(overrides) == nested


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([{"a.b": 1}, {"a": {"b": 2}}], {"a": {"b": 2}}),
        ([{"a": {"b": 1}}, {"a.b": 2}, {"a.c": 3}], {"a.b": 2, "a.c": 3}),
        ([{"a": {"b": 1, "d": 4}}, {"a.b": 2}], {"a": {"d": 4}, "a.b": 2}),
        ([{"a.b": {"c": 1}}, {"a": {"b.c": 2}}], {"a.b": {"c": 1}, "a": {"b.c": 2}}),
        ([{"a.b": {"c": 1}}, {"a.b": {"d": 2}}], {"a.b": {"c": 1, "d": 2}}),
        ([{"a.b": 1}, {"a": None}], {}),
        ([{"a.b": 1}, {"a.b": None}], {}),
        ([{"a": {"b": 1, "c": [1, 2]}}, {"a.b": None, "a.c": [3]}], {"a.c": [3]}),
        ([{"a": 1}, {"a.b": 2}], {"a.b": 2}),
        ([{"a": {"b": {"c": 1}}}, {"a.b": 2}], {"a.b": 2}),
        ([{}, {"a": {"b": 1}, "a.b": 2}, {"x.y": None}], {"a.b": 2}),
    ],
)
def test_after_changes_each_setting_occurs_once_with_openclaws_value(
    changes: list[dict[str, Any]], expected: dict[str, Any]
) -> None:
    overrides, live = changes[0], merged(seeded(), to_merge_patch(changes[0]))
    for change in changes[1:]:
        overrides = apply_change(overrides, change, ModelProvider.ANTHROPIC)
        live = merged(live, to_merge_patch(change))
    assert overrides == expected
    assert without_empty(seeded(overrides=overrides)) == without_empty(live)


def without_empty(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without empty objects."""
    left = {key: without_empty(each) if isinstance(each, dict) else each
            for key, each in config.items()}  # fmt: skip
    return {key: each for key, each in left.items() if each != {}}


def test_a_null_stays_while_it_removes_an_initial_setting() -> None:
    change = {"agents": {"defaults": {"heartbeat": None, "nonsense": None}}}
    overrides = apply_change(
        {"agents.defaults.heartbeat.every": "5m"}, change, ModelProvider.ANTHROPIC
    )
    assert overrides == {"agents": {"defaults": {"heartbeat": None}}}
    assert "heartbeat" not in seeded(overrides=overrides)["agents"]["defaults"]


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b"])
def test_a_path_with_an_empty_part_is_refused_by_name(path: str) -> None:
    with pytest.raises(ConfigRefused, match="empty part") as refused:
        to_merge_patch({path: 1})
    assert repr(path) in str(refused.value)


def test_reserved_paths_are_refused() -> None:
    with pytest.raises(ConfigRefused, match=r"'gateway\.port' belongs to chowder-local"):
        to_merge_patch({"gateway": {"port": 1}})


def test_merging_changes_neither_of_the_two() -> None:
    config, change = {"a": {"b": 1}, "c": 2}, {"a": {"b": None, "d": 3}, "c": {"e": 4}}
    assert merged(config, change) == {"a": {"d": 3}, "c": {"e": 4}}
    assert merged(config, change, keep_nulls=True) == {"a": {"b": None, "d": 3}, "c": {"e": 4}}
    assert (config, change) == (
        {"a": {"b": 1}, "c": 2},
        {"a": {"b": None, "d": 3}, "c": {"e": 4}},
    )


def test_the_file_is_json_that_reads_back_as_it_was() -> None:
    config = {"name": "Zoë 🦞", "n": [1, None, True]}
    assert json.loads(serialize_config(config)) == config
    assert "Zoë 🦞".encode() in serialize_config(config)
