"""The current state of the resources that a seed file declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chowder_local.core.domain import ModelProvider, Permission, Tier


@dataclass(frozen=True)
class CurrentInstance:
    """An existing agent with a declared name.

    `files` has the digests of its declared files, and `sent` the digests of the messages that were
    seeded, by session.
    """

    id: str
    model_provider: ModelProvider
    openclaw_config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CurrentKey:
    """An active scoped key of an earlier seeding; `grants` has permissions by instance id."""

    id: str
    grants: Mapping[str, frozenset[Permission]]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class CurrentOrganization:
    """An organization; `tier` is None if it does not exist yet.

    `model_keys` has the digests of the keys that it was last seeded with and still has.
    """

    tier: Tier | None = None
    model_keys: Mapping[ModelProvider, str] = field(default_factory=dict)
    instances: Mapping[str, CurrentInstance] = field(default_factory=dict)
    keys: Mapping[str, CurrentKey] = field(default_factory=dict)
