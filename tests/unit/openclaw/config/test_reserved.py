"""Settings that the server reserves, and their neighbours."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.openclaw.config.agent_config import to_merge_patch
from tests.scripted.refusals import refusal

RESERVED: list[dict[str, Any]] = [
    {"gateway.auth.token": "x"},
    {"gateway": {"port": 1}},
    {"gateway.reload.mode": "off"},
    {"gateway": None},
    {"gateway": "x"},
    {"gateway": {}},
    {"plugins.entries.admin-http-rpc.enabled": False},
    {"plugins.entries": None},
    {"plugins": 1},
    {"plugins.load.paths": ["/data/.openclaw/workspace/mine"]},
    {"models.providers.chowder-openai.baseUrl": "https://evil.example"},
    {"models.providers": {" Chowder-OpenAI": {"api": "x"}}},
    {"models": {"providers": {"chowder-anthropic": None}}},
    {"models.providers": None},
    {"models": None},
    {"meta.lastTouchedVersion": "2099.1.1"},
    {"env.vars": {"OPENCLAW_STATE_DIR": "/tmp"}},
    {"env.vars.OPENCLAW_TRAJECTORY_DIR": "/tmp"},
    {"env": {"openclaw_gateway_token": "x"}},
    {"env.vars.HOME": "/tmp"},
    {"env.vars.NODE_OPTIONS": "--inspect"},
    {"env.vars.CLAWHUB_URL": "http://evil.example"},
]


def test_reserved_paths_cannot_be_set() -> None:
    refused = [
        (overrides, refusal(ConfigRefused, to_merge_patch, overrides)) for overrides in RESERVED
    ]
    assert not [each for each in refused if "belongs to chowder-local" not in each[1]]


@pytest.mark.parametrize(
    "overrides",
    [
        {"plugins.enabled": False},
        {"plugins.enabled": "no"},
        {"plugins.allow": ["telegram"]},
        {"plugins.allow": []},
        {"plugins.deny": ["browser", "admin-http-rpc"]},
    ],
)
def test_the_control_plugin_cannot_be_disabled(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefused, match="needs the plugin admin-http-rpc"):
        to_merge_patch(overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        {"hooks": {"enabled": True, "token": "x", "path": "/v1"}},
        {"hooks.path": " API/v1/admin"},
        {"channels.line.webhookPath": "/api/v1/admin/rpc"},
        {"channels.mattermost.commands.callbackPath": "//startupz"},
        {"plugins.entries.webhooks.config.routes.mine.path": "/v1/responses"},
    ],
)
def test_a_webhook_on_a_route_of_the_server_is_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefused, match="calls the gateway at that address"):
        to_merge_patch(overrides)


NEIGHBOURS: list[dict[str, Any]] = [
    {"gatewayish": 1},
    {"plugins.entries.browser.enabled": True},
    {"plugins.enabled": True},
    {"plugins.allow": ["admin-http-rpc", "telegram"]},
    {"plugins.allow": None},
    {"plugins.deny": ["browser"]},
    {"models.providers.mine": {"api": "x"}},
    {"models.mode": "merge"},
    {"env": None},
    {"env.vars": {"TZ": "Europe/Berlin", "CLAWHUB_TOKEN": "x"}},
    {"env.vars.OPENCLAW_TRAJECTORY": "1"},
    {"hooks.path": "/hooks"},
    {"channels.line.webhookPath": "/line/v1"},
    {"channels.line.webhookPath": None},
    {"browser.executablePath": "/v1"},
]


def test_a_system_prompt_is_refused_with_the_ways_that_work() -> None:
    with pytest.raises(ConfigRefused, match=r"agent\.system_prompt.*SOUL\.md.*`instructions`"):
        to_merge_patch({"agent": {"system_prompt": "Be brief."}})


def test_neighbours_of_reserved_paths_can_be_set() -> None:
    for overrides in NEIGHBOURS:
        assert to_merge_patch(overrides), overrides
