"""Query plans: SQLite uses indexes, and reads no other rows."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event

from chowder_local.core.domain import InstanceId, InstanceStatus, KeyId, ModelProvider, SandboxId
from chowder_local.store.keys import KeyQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.usage import Span, UsageQueries
from tests.scripted.pages import all_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chowder_local.core.domain import Instance, Organization
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

MANY = range(100)
"""With fewer values, SQLite would choose the right plan anyway."""
LIVING_OF_ITS_OWN = (
    "SEARCH instance USING INDEX ix_instance_organization_id_status "
    "(organization_id=? AND status=?)"
)


@pytest.fixture
def statements() -> Iterator[list[tuple[str, Any]]]:
    """The executed statements, with their values."""
    statements: list[tuple[str, Any]] = []

    def executing(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        statements.append((statement, values))

    event.listen(Engine, "before_cursor_execute", executing)
    yield statements
    event.remove(Engine, "before_cursor_execute", executing)


async def plan(database: Database, statements: list[tuple[str, Any]]) -> list[str]:
    """The plans of the statements so far, which it clears."""
    kinds = ("SELECT", "WITH", "UPDATE", "DELETE")
    planned = [each for each in statements if each[0].startswith(kinds)]
    steps: list[str] = []
    async with database.reading() as session:
        connection = await session.connection()
        for statement, values in planned:
            explained = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            steps += [row.detail for row in explained]
    statements.clear()
    return steps


async def test_a_list_reads_living_instances_of_the_organization_only(
    database: Database,
    instances: InstanceQueries,
    organization: Organization,
    statements: list[Any],
) -> None:
    await all_of(instances.of_organization(organization.id))
    assert LIVING_OF_ITS_OWN in await plan(database, statements)


async def test_the_list_of_a_scoped_key_reads_its_instances_only(
    database: Database, instances: InstanceQueries, statements: list[Any]
) -> None:
    await all_of(instances.of_key(KeyId("key-1")))
    searched = [step for step in await plan(database, statements) if step.startswith("S")]
    assert searched == [
        "SEARCH instance USING INDEX sqlite_autoindex_instance_1 (id=?)",
        "SEARCH key_grant USING COVERING INDEX sqlite_autoindex_key_grant_1 (key_id=?)",
    ]


async def test_many_instances_are_found_by_id(
    database: Database,
    instances: InstanceQueries,
    organization: Organization,
    statements: list[Any],
) -> None:
    await instances.owners([SandboxId(f"sandbox-{n}") for n in MANY])
    await instances.owned([SandboxId(f"sandbox-{n}") for n in MANY])
    by_sandbox = "SEARCH instance USING INDEX sqlite_autoindex_instance_2 (sandbox_id=?)"
    assert await plan(database, statements) == [by_sandbox, by_sandbox]
    await instances.has_all(organization.id, [InstanceId(f"instance-{n}") for n in MANY])
    by_id = "SEARCH instance USING INDEX sqlite_autoindex_instance_1 (id=?)"
    assert await plan(database, statements) == [by_id]
    await instances.running_or_provisioning()
    by_status = "SEARCH instance USING INDEX ix_instance_status (status=?)"
    assert by_status in await plan(database, statements)


async def test_instances_are_counted_without_reading_them(
    database: Database,
    instances: InstanceQueries,
    organization: Organization,
    make: Callable[..., Instance],
    statements: list[Any],
) -> None:
    await OrganizationQueries(database).instance_count(organization.id)
    of_its_own = LIVING_OF_ITS_OWN.replace("INDEX", "COVERING INDEX")
    assert await plan(database, statements) == [of_its_own]
    await instances.counts(organization.id)
    assert of_its_own in await plan(database, statements)
    await instances.counts()
    assert await plan(database, statements) == [
        "SCAN instance USING COVERING INDEX ix_instance_status"
    ]
    await instances.add(make(1), limit=1)
    assert of_its_own in await plan(database, statements)


async def test_other_queries_use_an_index(
    database: Database,
    instances: InstanceQueries,
    organization: Organization,
    make: Callable[..., Instance],
    statements: list[Any],
) -> None:
    instance, keys, now = make(1), KeyQueries(database), make(1).created_at
    await instances.add(instance, limit=None)
    await instances.get(instance.id)
    await instances.by_sandbox(instance.sandbox_id)
    await instances.change(instance.id, now=now, status=InstanceStatus.RUNNING)
    await keys.by_digest("digest-1")
    await keys.get(KeyId("key-1"))
    await keys.revoke(KeyId("key-1"))
    await all_of(keys.scoped(organization.id))
    keys.note_use(KeyId("key-1"), now)
    await keys.uses.write()
    await OrganizationQueries(database).get(organization.id)
    await OrganizationQueries(database).model_key(organization.id, ModelProvider.OPENAI)
    await SessionQueries(database).remember(instance.id, "s", "agent:main:s-73", now)
    await SessionQueries(database).of_instance(instance.id)
    await instances.change(instance.id, now=now, status=InstanceStatus.TERMINATED)
    steps = await plan(database, statements)
    assert [step for step in steps if "SCAN" in step] == []
    assert len([step for step in steps if "SEARCH" in step]) >= 13


async def test_usage_is_found_by_its_instance(
    database: Database,
    instances: InstanceQueries,
    organization: Organization,
    make: Callable[..., Instance],
    statements: list[Any],
) -> None:
    instance, usage = make(1), UsageQueries(database)
    await instances.add(instance, limit=None)
    for whose in (None, instance.id):
        await usage.sums(organization.id, whose)
        await usage.rows(organization.id, whose, limit=9)
    steps = await plan(database, statements)
    assert [step for step in steps if "SCAN" in step] == []
    assert len([step for step in steps if "SEARCH usage" in step]) == 4


async def test_sums_of_a_span_read_its_days_from_the_index_only(
    database: Database,
    instances: InstanceQueries,
    organization: Organization,
    make: Callable[..., Instance],
    statements: list[Any],
) -> None:
    instance, usage = make(1), UsageQueries(database)
    await instances.add(instance, limit=None)
    span = Span(date(2026, 5, 1), date(2026, 5, 30))
    for whose in (None, instance.id):
        await usage.over_time(organization.id, span, whose)
    steps = await plan(database, statements)
    # The rows are summed twice.
    assert {step for step in steps if "SCAN" in step} == {"SCAN read"}
    by_sums = "SEARCH usage USING COVERING INDEX ix_usage_sums (instance_id=? AND day>? AND day<?)"
    assert steps.count(by_sums) == 2


async def test_the_latest_keys_are_found_by_their_organization(
    database: Database, organization: Organization, statements: list[Any]
) -> None:
    await KeyQueries(database).latest(organization.id, limit=9)
    steps = await plan(database, statements)
    assert [step for step in steps if "SCAN" in step] == []
    assert "SEARCH api_key USING INDEX ix_api_key_organization_id (organization_id=?)" in steps
