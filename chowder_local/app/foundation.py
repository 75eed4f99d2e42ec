"""The base of a server's parts: its settings, its database and the queries on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from chowder_local.core.events import Events
from chowder_local.core.metrics import Metrics
from chowder_local.core.shutdown import Shutdown
from chowder_local.store.conversation_histories import ConversationHistoryQueries
from chowder_local.store.idempotent_answers import IdempotentAnswerQueries
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.keys import DashboardSessionQueries, KeyQueries
from chowder_local.store.meta import MetaQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.snapshots import SnapshotQueries
from chowder_local.store.usage import UsageQueries
from chowder_local.store.warm_sandboxes import WarmSandboxQueries

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.core.secrets import SecretBox
    from chowder_local.core.settings import Settings
    from chowder_local.store.database import Database


def now() -> datetime:
    """The clock of a server outside tests."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """Each part is a cached property, made from other parts at its first use."""

    settings: Settings
    endpoints: Mapping[str, Endpoint]
    database: Database
    box: SecretBox
    tasks: asyncio.TaskGroup
    clock: Callable[[], datetime] = now
    events: Events = field(default_factory=Events)
    metrics: Metrics = field(default_factory=Metrics)
    shutdown: Shutdown = field(default_factory=Shutdown)

    @cached_property
    def meta(self) -> MetaQueries:
        return MetaQueries(self.database)

    @cached_property
    def organization_queries(self) -> OrganizationQueries:
        return OrganizationQueries(self.database)

    @cached_property
    def keys(self) -> KeyQueries:
        return KeyQueries(self.database)

    @cached_property
    def instances(self) -> InstanceQueries:
        return InstanceQueries(self.database, self.box, self.events)

    @cached_property
    def warm_queries(self) -> WarmSandboxQueries:
        return WarmSandboxQueries(self.database, self.events)

    @cached_property
    def snapshot_queries(self) -> SnapshotQueries:
        return SnapshotQueries(self.database, self.box, self.events)

    @cached_property
    def sessions(self) -> SessionQueries:
        return SessionQueries(self.database)

    @cached_property
    def histories(self) -> ConversationHistoryQueries:
        return ConversationHistoryQueries(self.database, self.box)

    @cached_property
    def idempotent_answers(self) -> IdempotentAnswerQueries:
        return IdempotentAnswerQueries(self.database, self.box)

    @cached_property
    def usage(self) -> UsageQueries:
        return UsageQueries(self.database)

    @cached_property
    def dashboard_session_queries(self) -> DashboardSessionQueries:
        return DashboardSessionQueries(self.database)
