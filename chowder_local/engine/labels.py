"""Labels that mark containers, volumes and networks as ours, and filters that find them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

STORE = "dev.chowder-local.store"
"""The store id of the data directory that a resource belongs to."""

SANDBOX = "dev.chowder-local.sandbox"
"""The id of the sandbox that a container or volume belongs to."""


def store_labels(store_id: str) -> dict[str, str]:
    """The labels of a resource that belongs to a data directory, but to no single sandbox."""
    return {STORE: store_id}


def sandbox_labels(store_id: str, sandbox_id: str) -> dict[str, str]:
    return {STORE: store_id, SANDBOX: sandbox_id}


def store_filter(store_id: str) -> dict[str, Any]:
    """The SDK's filter for all resources of one data directory."""
    return {"label": [f"{STORE}={store_id}"]}


def is_of_store(labels: Mapping[str, str] | None, store_id: str) -> bool:
    """Whether a resource with these labels belongs to that data directory."""
    return bool(store_id) and (labels or {}).get(STORE) == store_id


def sandbox_of(labels: Mapping[str, str] | None) -> str | None:
    """The id of the sandbox that a resource belongs to; None if it belongs to none."""
    return (labels or {}).get(SANDBOX)
