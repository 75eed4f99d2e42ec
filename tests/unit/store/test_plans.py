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
    from collections.abc import Awaitable, Callable, Iterator

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


async def test_each_query_uses_its_index(
    database: Database,
    instances: InstanceQueries,
    organization: Organization,
    make: Callable[..., Instance],
    statements: list[Any],
) -> None:
    instance, its, now = make(1), organization.id, make(1).created_at
    organizations, keys = OrganizationQueries(database), KeyQueries(database)
    sessions, usage = SessionQueries(database), UsageQueries(database)
    await instances.add(instance, limit=None)
    sandboxes = [SandboxId(f"sandbox-{n}") for n in MANY]
    by_sandbox = "SEARCH instance USING INDEX sqlite_autoindex_instance_2 (sandbox_id=?)"
    by_id = "SEARCH instance USING INDEX sqlite_autoindex_instance_1 (id=?)"
    counted = LIVING_OF_ITS_OWN.replace("INDEX", "COVERING INDEX")
    span = Span(date(2026, 5, 1), date(2026, 5, 30))
    by_sums = "SEARCH usage USING COVERING INDEX ix_usage_sums (instance_id=? AND day>? AND day<?)"
    queries: list[tuple[Callable[[], Awaitable[object]], str]] = [
        (lambda: all_of(instances.of_organization(its)), LIVING_OF_ITS_OWN),
        (lambda: all_of(instances.of_key(KeyId("key-1"))), by_id),
        (lambda: instances.owners(sandboxes), by_sandbox),
        (lambda: instances.owned(sandboxes), by_sandbox),
        (lambda: instances.has_all(its, [InstanceId(f"instance-{n}") for n in MANY]), by_id),
        (instances.running_or_provisioning, "instance USING INDEX ix_instance_status (status=?)"),
        (lambda: organizations.instance_count(its), counted),
        (lambda: instances.counts(its), counted),
        (lambda: instances.add(make(2), limit=9), counted),
        (lambda: instances.get(instance.id), by_id),
        (lambda: instances.by_sandbox(instance.sandbox_id), by_sandbox),
        (lambda: keys.by_digest("digest-1"), "SEARCH"),
        (lambda: keys.get(KeyId("key-1")), "SEARCH"),
        (lambda: keys.revoke(KeyId("key-1")), "SEARCH"),
        (lambda: all_of(keys.scoped(its)), "SEARCH"),
        (lambda: keys.latest(its, limit=9), "ix_api_key_organization_id (organization_id=?)"),
        (lambda: organizations.get(its), "SEARCH"),
        (lambda: organizations.model_key(its, ModelProvider.OPENAI), "SEARCH"),
        (lambda: sessions.remember(instance.id, "s", "agent:main:s-73", now), "SEARCH"),
        (lambda: sessions.of_instance(instance.id), "SEARCH"),
        (lambda: usage.sums(its, instance.id), "SEARCH usage"),
        (lambda: usage.rows(its, None, limit=9), "SEARCH usage"),
        (lambda: usage.over_time(its, span, None), by_sums),
        (lambda: instances.change(instance.id, now=now, status=InstanceStatus.TERMINATED), by_id),
    ]
    statements.clear()
    for number, (query, expected) in enumerate(queries):
        await query()
        steps = await plan(database, statements)
        assert any(expected in step for step in steps), (number, steps)
        # What it has read is summed again.
        assert {step for step in steps if "SCAN" in step} <= {"SCAN read"}, (number, steps)
    await instances.counts()
    assert await plan(database, statements) == [
        "SCAN instance USING COVERING INDEX ix_instance_status"
    ]
