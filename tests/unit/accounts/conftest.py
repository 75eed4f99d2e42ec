"""The accounts on a real store, with a clock that tests set."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from chowder_local.accounts.keys import Authentication
from chowder_local.accounts.organizations import Organizations
from chowder_local.core.secrets import SecretBox
from chowder_local.store.database import Database, MetaQueries
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.keys import DashboardSessionQueries, KeyQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.warm_sandboxes import WarmSandboxQueries
from tests.scripted.database import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime(2026, 5, 4, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Accounts:
    """The services of this layer, composed as in the server."""

    database: Database
    path: Path
    secret_box: SecretBox
    clock: Clock

    def __post_init__(self) -> None:
        self.keys = KeyQueries(self.database)
        self.meta = MetaQueries(self.database)
        self.dashboard_sessions = DashboardSessionQueries(self.database)
        self.instances = InstanceQueries(self.database, self.secret_box)
        self.warm_sandboxes = WarmSandboxQueries(self.database)
        self.authentication = Authentication(self.keys, self.clock)
        self.organizations = Organizations(
            OrganizationQueries(self.database), self.secret_box, self.clock
        )


@pytest.fixture
async def accounts(tmp_path: Path) -> AsyncIterator[Accounts]:
    secret_box = SecretBox.load(tmp_path / "secret.key")
    path = empty_database(tmp_path)
    async with Database.open(path) as database:
        yield Accounts(database, path, secret_box, Clock())
