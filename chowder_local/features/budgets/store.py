"""Budgets, and what is spent of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field, col, delete, select

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.features.budgets.model import BudgetLimits, BudgetPeriod, Spent
from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import EnumText, Table, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Collection

    from chowder_local.store.database import Database


class BudgetRow(Table, table=True):
    """A budget of an organization or an instance, whose id is `owner_id`, and what is spent of it.

    What is reserved is that of the calls in progress.
    """

    __tablename__: ClassVar[str] = "budget"

    owner_id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organization.id")
    instance_id: str | None = Field(foreign_key="instance.id", index=True)
    per: BudgetPeriod = Field(sa_type=EnumText(BudgetPeriod))
    usd: float | None
    tokens: int | None
    model_calls: int | None
    since: datetime = Field(sa_type=UtcDateTime)
    spent_usd: float
    spent_tokens: int
    spent_model_calls: int
    reserved_usd: float
    reserved_tokens: int
    reserved_model_calls: int


@dataclass(frozen=True)
class StoredBudget:
    """A budget of an organization, or of an instance of it."""

    organization_id: OrganizationId
    instance_id: InstanceId | None
    limits: BudgetLimits
    since: datetime
    spent: Spent
    reserved: Spent

    @property
    def owner_id(self) -> str:
        return self.instance_id or self.organization_id


@dataclass(eq=False, repr=False)
class BudgetQueries:
    """The budgets of all organizations and instances."""

    database: Database

    async def all(self) -> list[StoredBudget]:
        """All budgets, without those of instances that were deleted during a call."""
        async with self.database.writing(invalidates_caches=False) as session:
            owners = [each for each in await session.exec(select(BudgetRow.instance_id)) if each]
            if owners:
                await erase_deleted(session, owners, [BudgetRow])
            return [_budget(row) for row in await session.exec(select(BudgetRow))]

    async def save(self, budgets: Collection[StoredBudget]) -> None:
        """Adds or replaces budgets, in one transaction."""
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(_UPSERT, params=[_columns(each) for each in budgets])

    async def remove(self, owner_id: str) -> None:
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(delete(BudgetRow).where(col(BudgetRow.owner_id) == owner_id))


def _columns(budget: StoredBudget) -> dict[str, Any]:
    sums = {"spent": budget.spent, "reserved": budget.reserved}
    return {
        "owner_id": budget.owner_id,
        "organization_id": budget.organization_id,
        "instance_id": budget.instance_id,
        "since": budget.since,
        **asdict(budget.limits),
        **{f"{of}_{name}": each for of, sum_ in sums.items() for name, each in vars(sum_).items()},
    }


_INSERT = insert(BudgetRow)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["owner_id"],
    set_={name: getattr(_INSERT.excluded, name) for name in BudgetRow.model_fields},
)


def _budget(row: BudgetRow) -> StoredBudget:
    return StoredBudget(
        OrganizationId(row.organization_id),
        None if row.instance_id is None else InstanceId(row.instance_id),
        BudgetLimits(row.per, row.usd, row.tokens, row.model_calls),
        row.since,
        Spent(row.spent_usd, row.spent_tokens, row.spent_model_calls),
        Spent(row.reserved_usd, row.reserved_tokens, row.reserved_model_calls),
    )
