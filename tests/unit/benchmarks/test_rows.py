"""A filled data directory is one that a server could have left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rows import NEIGHBOUR_SIZE, fill, instance_id, scoped_key
from chowder_local.accounts.bootstrap import META_NAME
from chowder_local.core.domain import InstanceId, InstanceStatus, OrganizationId
from chowder_local.core.secrets import SecretBox, digest
from chowder_local.store.database import Database, MetaQueries
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.keys import KeyQueries
from chowder_local.store.sessions import SessionQueries
from tests.scripted.pages import all_of

if TYPE_CHECKING:
    from pathlib import Path


async def test_it_holds_what_was_asked_for(tmp_path: Path) -> None:
    count = NEIGHBOUR_SIZE + 3
    fill(tmp_path, count, 2 * count, own=2, terminated=4, keys=3)
    async with Database.open(tmp_path / "chowder.db") as database:
        instances = InstanceQueries(database, SecretBox.load(tmp_path / "secret.key"))
        counts = await instances.counts()
        assert counts[InstanceStatus.STOPPED] == count
        assert counts[InstanceStatus.TERMINATED] == 4
        assert sum(counts.values()) == count + 4
        own = OrganizationId(await MetaQueries(database).get(META_NAME) or "")
        listed = await all_of(instances.of_organization(own))
        assert [each.id for each in listed] == [instance_id(0), instance_id(1)]
        key = await KeyQueries(database).by_digest(digest(scoped_key(2)))
        assert key is not None
        assert [each.id for each in await all_of(instances.of_key(key.id))] == [instance_id(0)]
        sessions = SessionQueries(database)
        assert len(await sessions.of_instance(InstanceId(instance_id(1)))) == 2
