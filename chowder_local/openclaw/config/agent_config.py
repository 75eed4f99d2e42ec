"""What an agent's `openclaw.json` says, and how a user's overrides change it (pure)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import GATEWAY_PORT, OTHER_PROVIDERS, ModelProvider
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.openclaw.config import reserved
from chowder_local.openclaw.models import (
    DEFAULT_MODELS,
    KNOWN_MODELS,
    ModelRoute,
    model_entry,
    provider_entry,
    provider_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_FILE = "openclaw.json"
"""Where it is, relative to the agent's home."""

BLANK_PROVIDER = ModelProvider.ANTHROPIC
"""Whose model an agent uses by default as long as it is nobody's."""


def initial_config(
    *,
    gateway_token: str,
    relay_url: str,
    relay_token: str,
    provider: ModelProvider,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A fresh agent's whole configuration.

    `overrides` are laid over it as `openclaw config set` would do, one after the other.
    """
    default = ModelRoute(provider, DEFAULT_MODELS[provider])
    config: dict[str, Any] = {
        "gateway": {
            "mode": "local",
            "port": GATEWAY_PORT,
            "bind": "lan",
            "auth": {"mode": "token", "token": gateway_token},
            "controlUi": {"enabled": False},
            "http": {"endpoints": {"responses": {"enabled": True}}},
        },
        # Calls that nobody asked for would cost money and colour tests: no recaps by a small
        # model, no heartbeat, no embeddings (the memory tools then search by keyword).
        "agents": {
            "defaults": {
                "model": {"primary": default.openclaw_model},
                "utilityModel": "",
                "heartbeat": {"every": "0m"},
            }
        },
        "memory": {"search": {"provider": "none"}},
        # Otherwise a client's function tools are hidden behind OpenClaw's tool search.
        "tools": {"toolSearch": {"mode": "directory"}},
        "plugins": {"entries": {"admin-http-rpc": {"enabled": True}}},
        "models": {
            "providers": {
                provider_id(each): {
                    **provider_entry(each, relay_url, relay_token),
                    "models": [model_entry(model) for model in KNOWN_MODELS.get(each, ())],
                }
                for each in (*ModelProvider, OTHER_PROVIDERS)
            }
        },
    }
    return merged(config, to_merge_patch(overrides or {}))


def blank_patch(provider: ModelProvider, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """What makes of a blank agent's configuration the one that `seed` gives; may be nothing."""
    default = ModelRoute(provider, DEFAULT_MODELS[provider]).openclaw_model
    own = {} if provider is BLANK_PROVIDER else {"agents.defaults.model.primary": default}
    return merged(to_merge_patch(own), to_merge_patch(overrides or {}), keep_nulls=True)


def to_merge_patch(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A user's overrides (dot paths as keys, or nested objects) as one nested merge patch.

    Raises ConfigRefused for a path that the server's own hold on the sandbox hangs on.
    """
    nested = _nest(overrides)
    reserved.check(nested)
    return nested


def apply_change(
    overrides: Mapping[str, Any] | None, change: Mapping[str, Any], provider: ModelProvider
) -> dict[str, Any]:
    """Overrides in force after a user's change, each in the form in which it was given.

    What the change replaces is taken out, so that no setting is in it twice. A null stays where it
    takes one of the seed's settings away, and else leaves nothing.
    """
    result = dict(overrides or {})
    for key, value in change.items():
        patched = _nest({key: value})
        same = result.get(key)
        result = {
            other: left
            for other, former in result.items()
            if other != key
            and (left := _outlasting(former, other.split("."), patched)) is not _GONE
        }
        if isinstance(same, dict) and isinstance(value, dict):
            value = merged(same, value, keep_nulls=True)
        result[key] = value
    fresh = initial_config(gateway_token="", relay_url="", relay_token="", provider=provider)
    left = {
        key: _drop_idle_nulls(value, _below(fresh, *key.split(".")))
        for key, value in result.items()
    }
    return {key: value for key, value in left.items() if value is not _GONE}


_GONE = object()
"""In place of a setting that is not there, or not any more."""


def _outlasting(former: Any, names: list[str], patched: Any) -> Any:
    """What of an override, whose path begins with `names`, a nested patch does not replace."""
    for name in names:
        if not isinstance(patched, dict):
            return _GONE
        if name not in patched:
            return former
        patched = patched[name]
    if not isinstance(patched, dict):
        return _GONE
    if not isinstance(former, dict):
        return former if former == patched else _GONE
    left = {name: _outlasting(value, [name], patched) for name, value in former.items()}
    return {name: value for name, value in left.items() if value is not _GONE} or _GONE


def _below(fresh: Any, *names: str) -> Any:
    for name in names:
        fresh = fresh.get(name, _GONE) if isinstance(fresh, dict) else _GONE
    return fresh


def _drop_idle_nulls(value: Any, fresh: Any) -> Any:
    if value is None:
        return _GONE if fresh is _GONE else None
    if not isinstance(value, dict):
        return value
    left = {name: _drop_idle_nulls(each, _below(fresh, name)) for name, each in value.items()}
    return {name: each for name, each in left.items() if each is not _GONE}


def _nest(overrides: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in overrides.items():
        names = key.split(".")
        if not all(names):
            raise ConfigRefused(f"The configuration path {key!r} has an empty part.")
        for name in reversed(names[1:]):
            value = {name: value}
        nested = merged(nested, {names[0]: value}, keep_nulls=True)
    return nested


def merged(
    config: Mapping[str, Any], change: Mapping[str, Any], *, keep_nulls: bool = False
) -> dict[str, Any]:
    """A configuration with a merge patch laid over it (RFC 7396: null deletes)."""
    result = dict(config)
    for key, value in change.items():
        if value is None and not keep_nulls:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = merged(
                below if isinstance(below, dict) else {}, value, keep_nulls=keep_nulls
            )
        else:
            result[key] = value
    return result


def serialize_config(config: Mapping[str, Any]) -> bytes:
    return json.dumps(config, indent=2, ensure_ascii=False).encode()
