"""What of an agent's configuration the server's own hold on its sandbox hangs on (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import ConfigRefused, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Path = tuple[str, ...]

RPC_PLUGIN = "admin-http-rpc"

_HELD = (
    # Where the gateway listens, whom it believes, what it answers, whether it reloads.
    "gateway.",
    # Calls of the gateway go through a plugin.
    f"plugins.entries.{RPC_PLUGIN}.",
    # The way to the relay.
    "models.providers.chowder-",
)
"""Beginnings of dotted paths, in lower case, that every agent's configuration has."""

_CLOSED = (
    # Another plugin of that name would displace it.
    "plugins.load.",
    # OpenClaw's own notes: a version that is still to come would keep it from starting.
    "meta.",
    # What a sandbox's environment decides; both spellings are read.
    *(
        f"env.{below}{name}"
        for below in ("", "vars.")
        for name in ("openclaw_", "clawhub_url.", "node_", "home.")
    ),
)
"""Beginnings of paths at which nothing may be put."""

_ROUTES = {"api", "v1", "startupz", "readyz", "healthz"}
"""First parts of the gateway's addresses that are called."""


def check(patch: Mapping[str, Any]) -> None:
    """Raises ConfigRefused, by name, for a nested merge patch that would break the hold."""
    for names, value in leaves(patch):
        if objection := _objection(names, value):
            path = ".".join(names)
            problem = Problem(path, f"It {objection}")
            raise ConfigRefused(f"The configuration path {path!r} {objection}", [problem])


def without_reserved(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of another agent's, without all that `check` would not let be set."""
    return _filtered(nested, lambda names, value: _objection(names, value) is None, ())


def only_reserved(nested: Mapping[str, Any]) -> dict[str, Any]:
    """The rest: of a seed, what is an agent's own and cannot be another's."""
    return _filtered(nested, lambda names, _: is_held(names), ())


def leaves(nested: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The paths that a merge patch sets or removes, and what to."""
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


def _objection(names: Path, value: Any) -> str | None:
    if is_held(names):
        return "belongs to chowder-local and cannot be set."
    if _turns_plugin_off(names, value):
        return f"cannot be set so: chowder-local needs the plugin {RPC_PLUGIN}."
    if _takes_route(names, value):
        return "cannot be set so: chowder-local calls the gateway at that address."
    return None


def is_held(names: Path) -> bool:
    """Whether setting a value there changes what is held, from above or from below."""
    # OpenClaw trims and lower-cases some names itself.
    path = "".join(f"{name.strip().lower()}." for name in names)
    if path.startswith((*_HELD, *_CLOSED)):
        return True
    return any(held.startswith(path) for held in _HELD)


def _turns_plugin_off(names: Path, value: Any) -> bool:
    if value is None or names[0] != "plugins":
        return False
    named = RPC_PLUGIN in value if isinstance(value, list) else False
    return (
        (names == ("plugins", "enabled") and value is not True)
        or (names == ("plugins", "allow") and not named)
        or (names == ("plugins", "deny") and named)
    )


def _takes_route(names: Path, value: Any) -> bool:
    """Whether a webhook is put where the server's own calls would end up in it."""
    if not isinstance(value, str) or names[0] not in {"channels", "hooks", "plugins"}:
        return False
    if names[-1] not in {"path", "webhookPath", "callbackPath"}:
        return False
    return value.strip().strip("/").split("/")[0].lower() in _ROUTES
