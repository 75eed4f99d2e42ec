"""What of one agent's configuration another one gets that is made of it (pure)."""

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
"""What is left out of an export at whatever depth, whatever is in it."""


def read_config(content: bytes | None) -> dict[str, Any] | None:
    """What an `openclaw.json` says that is not its own sandbox's; None if it is not read.

    It is the agent's to write, and OpenClaw takes more than JSON.
    """
    if content is None:
        return None
    try:
        return reserved.without_reserved(read_object(content))
    except (ValueError, RecursionError):
        return None


def with_reserved(seed: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """A new sandbox's configuration: its own seed in what is held, and all else as carried."""
    return agent_config.merged(config, reserved.only_reserved(seed))


def with_channels_disabled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same with all channels disabled: two agents cannot both read one mailbox."""
    channels = settings.get("channels")
    if not isinstance(channels, dict):
        return dict(settings)
    quiet = {
        name: {**each, "enabled": False} if isinstance(each, dict) and name != "defaults" else each
        for name, each in channels.items()
    }
    return {**settings, "channels": quiet}


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same without channels, and without whatever may be a credential."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        if key in _PRIVATE:
            continue
        # Of numbers and switches with such a name there are many: maxTokens.
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
