"""`organization` against a scripted server."""

import io
import sys
from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

KITCHEN: dict[str, Any] = {
    "id": "0a1b2c3d-4e5f",
    "name": "Kitchen",
    "model_providers": ["anthropic", "openai"],
    "subscription_tier": "crab",
    "instance_limit": 10,
    "instance_count": 2,
}
SHOW = "GET /v1/organization"
CHANGE = "PATCH /v1/organization"


def test_the_organization_is_shown_with_its_tier(serve: Serve, capsys: Output) -> None:
    env, _ = serve({SHOW: (200, KITCHEN, "X-Offline-Providers: openai")})
    assert run(["organization", "show"], env) == 0
    shown = capsys.readouterr().out
    assert "crab: 2 of 10 instances" in shown
    assert "Model keys   anthropic, openai (offline)\n" in shown


def test_a_model_key_is_read_from_standard_input(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, requests = serve({CHANGE: KITCHEN})
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-7\n"))
    assert run(["organization", "set-key", "openai"], env) == 0
    assert requests[-1] == (CHANGE, {"model_api_keys": {"openai": "sk-7"}})
    assert "sk-7" not in "".join(capsys.readouterr())
    assert run(["organization", "set-key", "openai", "--offline"], env) == 0
    assert requests[-1] == (CHANGE, {"model_api_keys": {"openai": "offline"}})


def test_an_empty_input_does_not_remove_a_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, requests = serve({})
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run(["organization", "set-key", "openai"], env) == 2
    assert requests == []


def test_a_key_is_removed_after_asking(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    env, requests = serve({CHANGE: KITCHEN})
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\ny\n"))
    assert run(["organization", "remove-key", "openai"], env) == 1
    assert requests == []
    assert run(["organization", "remove-key", "openai"], env) == 0
    assert requests == [(CHANGE, {"model_api_keys": {"openai": ""}})]


def test_it_is_renamed(serve: Serve) -> None:
    env, requests = serve({CHANGE: KITCHEN})
    assert run(["organization", "rename", "Kitchen"], env) == 0
    assert requests == [(CHANGE, {"name": "Kitchen"})]


def test_the_tier_is_shown(serve: Serve, capsys: Output) -> None:
    tier = {"tier": "whale", "instance_limit": None, "instance_count": 1}
    env, _ = serve({"GET /v1/subscription": tier})
    assert run(["organization", "tier"], env) == 0
    assert capsys.readouterr().out == "whale: 1 of any number of instances\n"


def test_signing_up_another_prints_its_key_alone(serve: Serve, capsys: Output) -> None:
    signup = {"organization": KITCHEN, "api_key": "chd_org_new"}
    env, requests = serve({"POST /v1/organization/signup": (201, signup)})
    assert run(["organization", "create", "Kitchen"], env) == 0
    assert requests[-1][1] == {"name": "Kitchen"}
    assert capsys.readouterr().out == "chd_org_new\n"
