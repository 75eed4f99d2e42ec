"""The paths of an agent's configuration that the server refuses by itself (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import ConfigRefused, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Path = tuple[str, ...]

RPC_PLUGIN = "admin-http-rpc"

_OWN = (
    # The gateway's address, token, endpoints and reloads.
    "gateway.",
    # The plugin that serves the server's control calls.
    f"plugins.entries.{RPC_PLUGIN}.",
    # The relay's address and token.
    "models.providers.chowder-",
)
"""Lower-case prefixes of dotted paths that the server sets in every configuration."""

_FORBIDDEN = (
    # Another plugin of the same name would replace the server's.
    "plugins.load.",
    # OpenClaw's own metadata: a newer version there would keep OpenClaw from starting.
    "meta.",
    # Variables that the sandbox sets; OpenClaw reads both spellings.
    *(
        f"env.{below}{name}"
        for below in ("", "vars.")
        for name in ("openclaw_", "clawhub_url.", "node_", "home.")
    ),
)
"""Prefixes of paths that nobody may set."""

SYSTEM_PROMPT = ("agent", "system_prompt")
"""A setting in an example of the hosted service's documentation."""

_ROUTES = {"api", "v1", "startupz", "readyz", "healthz"}
"""The first segments of the gateway's routes that the server calls."""


def check(patch: Mapping[str, Any]) -> None:
    """Raises ConfigRefused if a nested merge patch sets a reserved path; the error names it."""
    for names, value in leaves(patch):
        if reason := _refusal(names, value):
            path = ".".join(names)
            problem = Problem(path, f"It {reason}")
            raise ConfigRefused(f"The configuration path {path!r} {reason}", [problem])


def without_reserved(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without everything that `check` refuses."""
    return _filtered(nested, lambda names, value: _refusal(names, value) is None, ())


def only_reserved(nested: Mapping[str, Any]) -> dict[str, Any]:
    """The reserved part of a configuration, which belongs to one sandbox."""
    return _filtered(nested, lambda names, _: is_reserved(names), ())


def leaves(nested: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The paths that a merge patch sets or removes, with their new values."""
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _filtered(
    nested: Mapping[str, Any], is_kept: Callable[[Path, Any], bool], above: Path
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in nested.items():
        names = (*above, key)
        if isinstance(value, dict) and value:
            if below := _filtered(value, is_kept, names):
                kept[key] = below
        elif is_kept(names, value):
            kept[key] = value
    return kept


def _refusal(names: Path, value: Any) -> str | None:
    if names == SYSTEM_PROMPT:
        return (
            "is no setting of OpenClaw. Write the text to the agent's file workspace/SOUL.md, which"
            " counts from the next message on, or send it as `instructions` with each message."
        )
    if is_reserved(names):
        return "belongs to chowder-local and cannot be set."
    if _turns_plugin_off(names, value):
        return f"cannot have this value: chowder-local needs the plugin {RPC_PLUGIN}."
    if _takes_route(names, value):
        return "cannot have this value: chowder-local calls the gateway at that address."
    return None


def is_reserved(names: Path) -> bool:
    """Whether a path is reserved, or is above a path that the server sets."""
    # OpenClaw trims and lower-cases some names.
    path = "".join(f"{name.strip().lower()}." for name in names)
    if path.startswith((*_OWN, *_FORBIDDEN)):
        return True
    return any(own.startswith(path) for own in _OWN)


def _turns_plugin_off(names: Path, value: Any) -> bool:
    if value is None or names[0] != "plugins":
        return False
    is_listed = isinstance(value, list) and RPC_PLUGIN in value
    return (
        (names == ("plugins", "enabled") and value is not True)
        or (names == ("plugins", "allow") and not is_listed)
        or (names == ("plugins", "deny") and is_listed)
    )


def _takes_route(names: Path, value: Any) -> bool:
    """Whether a webhook's path would receive the server's own calls."""
    if not isinstance(value, str) or names[0] not in {"channels", "hooks", "plugins"}:
        return False
    if names[-1] not in {"path", "webhookPath", "callbackPath"}:
        return False
    return value.strip().strip("/").split("/")[0].lower() in _ROUTES
