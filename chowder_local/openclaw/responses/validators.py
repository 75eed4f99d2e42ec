"""Members of what a client sends, read as the kind they have to be (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import MessageRefused

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_object(value: Any, what: str) -> dict[str, Any]:
    """An object; nothing at all is an empty one. Raises MessageRefused."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MessageRefused(f"{what} must be an object.")
    return value


def as_array(value: Any, what: str) -> list[Any]:
    """An array. Raises MessageRefused."""
    if not isinstance(value, list):
        raise MessageRefused(f"{what} must be an array.")
    return value


def as_string(value: Any, what: str) -> str:
    """A string. Raises MessageRefused."""
    if not isinstance(value, str):
        raise MessageRefused(f"{what} must be a string.")
    return value


def pick(source: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Some of an object's members, those that are there and not null."""
    return {key: source[key] for key in keys if source.get(key) is not None}
