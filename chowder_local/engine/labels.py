"""What marks a container, volume or network as ours, and the filters that find it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

STORE = "dev.chowder-local.store"
"""The data directory that a thing belongs to, by its store id."""

SANDBOX = "dev.chowder-local.sandbox"
"""The sandbox that a container or volume is part of."""


def store_labels(store_id: str) -> dict[str, str]:
    """What a thing that all sandboxes of a data directory share is marked with."""
    return {STORE: store_id}


def sandbox_labels(store_id: str, sandbox_id: str) -> dict[str, str]:
    return {STORE: store_id, SANDBOX: sandbox_id}


def store_filter(store_id: str) -> dict[str, Any]:
    """Finds everything of one data directory, and nothing of anyone else's."""
    return {"label": [f"{STORE}={store_id}"]}


def is_of_store(labels: Mapping[str, str] | None, store_id: str) -> bool:
    """Whether a thing with these labels may be touched by the owner of that data directory."""
    return bool(store_id) and (labels or {}).get(STORE) == store_id


def sandbox_of(labels: Mapping[str, str] | None) -> str | None:
    """Which sandbox a thing is part of, or None if it is part of none."""
    return (labels or {}).get(SANDBOX)
