"""Checks the types of members that a client sends (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import MessageRefused

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_object(value: Any, what: str) -> dict[str, Any]:
    """The value as an object; None is an empty one. Raises MessageRefused if it is another type."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MessageRefused(f"{what} must be an object.")
    return value


def as_array(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MessageRefused(f"{what} must be an array.")
    return value


def as_string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise MessageRefused(f"{what} must be a string.")
    return value


def pick(source: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The members with these keys that are present and not null."""
    return {key: source[key] for key in keys if source.get(key) is not None}
