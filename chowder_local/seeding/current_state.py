"""What a server has of what a seed file declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chowder_local.core.domain import ModelProvider, Permission, Tier


@dataclass(frozen=True)
class CurrentInstance:
    """An agent of a declared name; `files` are digests of those that are declared and there.

    `sent` are the digests of the messages that its conversations were seeded with.
    """

    id: str
    model_provider: ModelProvider
    openclaw_config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CurrentKey:
    """A scoped key that an earlier seeding made and that still is good, by ids of instances."""

    id: str
    grants: Mapping[str, frozenset[Permission]]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class CurrentOrganization:
    """An organization; `model_keys` are digests of what it was last seeded with and still has.

    `tier` is None for one that is not there yet.
    """

    tier: Tier | None = None
    model_keys: Mapping[ModelProvider, str] = field(default_factory=dict)
    instances: Mapping[str, CurrentInstance] = field(default_factory=dict)
    keys: Mapping[str, CurrentKey] = field(default_factory=dict)
