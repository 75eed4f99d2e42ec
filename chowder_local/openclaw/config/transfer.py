"""The configuration that a fork, restore or import takes over from another agent (pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chowder_local.core.untrusted_json import read_object
from chowder_local.openclaw.config import agent_config, reserved

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        return reserved.without_reserved(read_object(content))
    except (ValueError, RecursionError):
        return None


def with_reserved(initial: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """A new sandbox's configuration: reserved paths of `initial`, everything else of `config`."""
    return agent_config.merged(config, reserved.only_reserved(initial))


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
