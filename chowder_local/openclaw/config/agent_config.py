"""An agent's `openclaw.json`: built, overridden, and taken over from another agent (pure)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import (
    GATEWAY_PORT,
    OTHER_PROVIDERS,
    RELAY_HOSTNAME,
    ModelProvider,
)
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.untrusted_json import read_object
from chowder_local.openclaw.config import edits
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
"""Its path relative to the agent's home."""

BLANK_PROVIDER = ModelProvider.ANTHROPIC
"""The provider of a blank agent's default model."""


def initial_config(
    *,
    gateway_token: str,
    relay_url: str,
    relay_token: str,
    provider: ModelProvider,
    has_system_jobs: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A new agent's complete configuration.

    It `has_system_jobs` if OpenClaw's own scheduled jobs shall run. `overrides` are applied to it
    in order, as `openclaw config set` would. Raises ConfigRefused if one sets a reserved path.
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
        # Unrequested model calls would cost money and disturb tests: no recaps by a small model,
        # no heartbeat, no embeddings (the memory tools then search by keyword).
        "agents": {
            "defaults": {
                "model": {"primary": default.openclaw_model},
                "utilityModel": "",
                # Where it is switched on, it is not skipped for want of a messenger.
                "heartbeat": {"every": "0m", "target": "none"},
            }
        },
        "memory": {"search": {"provider": "none"}},
        # OpenClaw refuses messages to sessions that it has archived: those that were not used for
        # 30 days, also by a clock that was set on, and of more than 5,000 those used longest ago.
        "session": {"maintenance": {"pruneAfter": "36500d", "maxEntries": 100_000}},
        # Otherwise OpenClaw sends no job's webhook to the inbox, which has a private address.
        "cron": {"webhookSsrfPolicy": {"allowedHostnames": [RELAY_HOSTNAME]}},
        # OpenClaw must not call its vendor: the image fixes the release, and the relay serves the
        # models.
        "update": {"checkOnStart": False},
        # In its other modes, OpenClaw's tool search hides a client's function tools.
        "tools": {"toolSearch": {"mode": "directory"}},
        "plugins": {"entries": {"admin-http-rpc": {"enabled": True}}},
        "models": {
            "catalogRefresh": {"enabled": False},
            "providers": {
                provider_id(each): {
                    **provider_entry(each, relay_url, relay_token),
                    "models": [model_entry(model) for model in KNOWN_MODELS.get(each, ())],
                }
                for each in (*ModelProvider, OTHER_PROVIDERS)
            },
        },
    }
    if not has_system_jobs:
        config = merged(config, _NO_SYSTEM_JOBS)
    return merged(config, to_merge_patch(overrides or {}))


_NO_SYSTEM_JOBS = {
    "plugins": {"entries": {"memory-core": {"config": {"dreaming": {"enabled": False}}}}},
    "skills": {"workshop": {"autonomous": {"mode": "off"}}},
}
"""Without the nightly pass over memories, and the weekly one over skills."""


def blank_patch(provider: ModelProvider, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """The merge patch from a blank agent's configuration to `initial_config`'s; may be empty."""
    default = ModelRoute(provider, DEFAULT_MODELS[provider]).openclaw_model
    model = {} if provider is BLANK_PROVIDER else {"agents.defaults.model.primary": default}
    return merged(to_merge_patch(model), to_merge_patch(overrides or {}), keep_nulls=True)


def to_merge_patch(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A user's overrides (dotted paths as keys, or nested objects) as one nested merge patch.

    Raises ConfigRefused if a path is reserved or has an empty part.
    """
    nested = _nest(overrides)
    edits.check_reserved(nested)
    return nested


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A server's overrides as one nested merge patch, without reserved paths.

    Raises ConfigRefused if a path has an empty part.
    """
    return edits.without_reserved(_nest(overrides))


def apply_change(
    overrides: Mapping[str, Any] | None, change: Mapping[str, Any], provider: ModelProvider
) -> dict[str, Any]:
    """The overrides after a user's change, each with the key that the user wrote.

    Overrides that the change replaces are removed, so that no setting occurs twice. A null stays
    if it removes a setting of the initial configuration, and is dropped otherwise.
    """
    result = merged({}, overrides or {}, keep_nulls=True)
    below: defaultdict[str, list[str]] = defaultdict(list)
    """Keys of the result by the paths above them: each is compared only with those it may touch."""
    for key in result:
        for path in _paths_above(key):
            below[path].append(key)
    for key, value in change.items():
        patch = _nest({key: value})
        same_key = result.pop(key, None)
        above = _paths_above(key)
        for other in (*above, *below.pop(key, ())):
            if other in result:
                _drop_replaced(result, other, patch)
        if isinstance(value, dict):
            former = same_key if isinstance(same_key, dict) else {}
            value = merged(former, value, keep_nulls=True)
        result[key] = value
        for path in above:
            below[path].append(key)
    initial = initial_config(gateway_token="", relay_url="", relay_token="", provider=provider)
    left = {
        key: _drop_idle_nulls(value, _value_at(initial, *key.split(".")))
        for key, value in result.items()
    }
    return {key: value for key, value in left.items() if value is not _ABSENT}


_ABSENT = object()
"""Stands for a setting that does not exist; None is a valid value."""


def _paths_above(key: str) -> list[str]:
    names = key.split(".")
    return [".".join(names[:end]) for end in range(1, len(names))]


def _drop_replaced(overrides: dict[str, Any], key: str, patch: Any) -> None:
    """Removes the part of the override at the path `key` that a nested patch replaces."""
    for name in key.split("."):
        if isinstance(patch, dict):
            if name not in patch:
                return
            patch = patch[name]
    if not _is_left(overrides[key], patch):
        del overrides[key]


def _is_left(former: Any, patch: Any) -> bool:
    """Removes from a value what a merge patch for it replaces; whether something is left."""
    if not (isinstance(former, dict) and isinstance(patch, dict)):
        return False
    for name, value in patch.items():
        if name in former and not _is_left(former[name], value):
            del former[name]
    return bool(former)


def _value_at(config: Any, *names: str) -> Any:
    for name in names:
        config = config.get(name, _ABSENT) if isinstance(config, dict) else _ABSENT
    return config


def _drop_idle_nulls(value: Any, initial: Any) -> Any:
    if value is None:
        return _ABSENT if initial is _ABSENT else None
    if not isinstance(value, dict):
        return value
    left = {name: _drop_idle_nulls(each, _value_at(initial, name)) for name, each in value.items()}
    return {name: each for name, each in left.items() if each is not _ABSENT}


def _nest(overrides: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in overrides.items():
        names = key.split(".")
        if not all(names):
            raise ConfigRefused(f"The configuration path {key!r} has an empty part.")
        for name in reversed(names):
            value = {name: value}
        _merge_into(nested, value)
    return nested


def _merge_into(config: dict[str, Any], change: Mapping[str, Any]) -> None:
    # `config` is changed in place, because copies of it would take quadratic time. It gets no
    # object of `change`.
    for key, value in change.items():
        if isinstance(value, dict):
            if not isinstance(config.get(key), dict):
                config[key] = {}
            _merge_into(config[key], value)
        else:
            config[key] = value


def merged(
    config: Mapping[str, Any], change: Mapping[str, Any], *, keep_nulls: bool = False
) -> dict[str, Any]:
    """A configuration with a merge patch applied (RFC 7396: null deletes)."""
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


_SECRET = re.compile(
    r"token|secret|password|passwd|api_?key|private_?key|credential|cookie|authorization"
    r"|service_?account|webhook",
    re.I,
)
_PRIVATE = {"channels", "env", "headers", "secrets", "auth"}
"""Members that an export omits at any depth."""


def read_config(content: bytes | None) -> dict[str, Any] | None:
    """An `openclaw.json` without reserved paths; None if it cannot be parsed.

    The agent can write the file, and OpenClaw accepts more than JSON.
    """
    if content is None:
        return None
    try:
        return edits.without_reserved(read_object(content))
    except (ValueError, RecursionError):
        return None


def with_reserved(initial: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """A new sandbox's configuration: reserved paths of `initial`, everything else of `config`.

    The configuration of an agent of 0.1.0 says nothing of sessions: their limits are `initial`'s.
    """
    limits = {"session": {"maintenance": initial["session"]["maintenance"]}}
    return merged(merged(limits, config), edits.only_reserved(initial))


def with_channels_disabled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with all channels disabled: two agents cannot share one account."""
    channels = settings.get("channels")
    if not isinstance(channels, dict):
        return dict(settings)
    disabled = {
        name: {**each, "enabled": False} if isinstance(each, dict) and name != "defaults" else each
        for name, each in channels.items()
    }
    return {**settings, "channels": disabled}


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without channels, and without members that may be credentials."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        if key in _PRIVATE:
            continue
        # Many numbers and booleans have such a name: maxTokens.
        if _SECRET.search(key) and not isinstance(value, bool | int | float):
            continue
        kept[key] = _portable(value)
    return kept


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return portable(value)
    if isinstance(value, list):
        return [_portable(each) for each in value]
    return value
