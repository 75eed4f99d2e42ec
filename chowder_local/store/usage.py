"""Usage of model calls: counted in memory, written behind every few seconds, read in sums."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import String, and_, case, cast, distinct, func, literal, union_all
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col, select

from chowder_local.core.domain import InstanceId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import run_every
from chowder_local.store.tables import COUNTED, InstanceRow, SessionRow, UsageRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sqlalchemy.sql.elements import ColumnElement
    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.core.domain import OrganizationId
    from chowder_local.store.database import Database

log = logging.getLogger(__name__)

WRITE_INTERVAL_S = 10.0

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(eq=False, repr=False)
class WriteBehind(Generic[Key, Value]):
    """The latest values by key that are not written yet.

    A server that is killed loses the values of its last ten seconds. `save` writes values in a
    transaction; `what` names that work in the log, as in "writing when keys were used".
    """

    database: Database
    what: str
    save: Callable[[AsyncSession, Mapping[Key, Value]], Awaitable[None]]

    def __post_init__(self) -> None:
        self.pending: dict[Key, Value] = {}

    async def run(self) -> None:
        """Writes pending values every ten seconds, until cancelled."""
        await run_every(WRITE_INTERVAL_S, self.what, self.write)

    async def write(self) -> None:
        """Writes all pending values in one transaction. Logs a failure, and keeps the values."""
        if not self.pending:
            return
        try:
            # No `ReadCache` holds these values.
            async with self.database.writing(invalidates_caches=False) as session:
                # `pending` is read within the lock: another task may have written it while this one
                # waited.
                if saving := dict(self.pending):
                    await self.save(session, saving)
        except DataDirUnusable as error:
            log.warning("%s postponed: %s", self.what, error)
            return
        # The values are removed after the write, so that readers always find them; a newer value
        # stays.
        for key, value in saving.items():
            if self.pending.get(key) is value:
                del self.pending[key]


Part = TypeVar("Part")


MAX_KEYS_PER_DAY = 10_000
"""The most rows of an instance and day: an agent chooses names, and must not fill the disk."""
MOST_INSTANCES = 50
"""How many instances are told apart, those with most tokens; the others are summed up."""
OTHERS = InstanceId("")
UNSPECIFIED = ""
"""The session key or model name if it is unknown, or if there are too many of them."""


@dataclass(frozen=True)
class UsageKey:
    """Calls with the same key are counted together."""

    instance_id: InstanceId
    day: date
    session_key: str
    provider: str
    model: str
    is_billed: bool


@dataclass
class Counts:
    """Sums over some calls; `input_tokens` include the cached ones."""

    calls: int = 0
    unmetered_calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    long_cache_write_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: Counts) -> None:
        """Adds another sum."""
        for name, count in asdict(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True)
class UsageSum:
    """The usage of a model."""

    model: str
    is_billed: bool
    counts: Counts


@dataclass(frozen=True)
class UsagePart(UsageSum, Generic[Part]):
    """The usage of a model on one day or by one instance."""

    of: Part


@dataclass(frozen=True)
class Span:
    """A range of days, including the first and the last."""

    first: date
    last: date


@dataclass(frozen=True)
class UsageOfDay:
    """The usage of a key; `session_name` is None if the session has no name."""

    key: UsageKey
    session_name: str | None
    counts: Counts


@dataclass(eq=False, repr=False)
class UsageQueries:
    """Usage by instance, session, model and day.

    A server that is killed loses the calls of its last ten seconds.
    """

    database: Database

    def __post_init__(self) -> None:
        self._unwritten: dict[UsageKey, Counts] = {}
        self._writing = asyncio.Lock()
        self._day: date | None = None
        self._keys: dict[InstanceId, set[UsageKey]] = {}

    def note(self, key: UsageKey, counts: Counts) -> None:
        """Counts a call in memory."""
        self._unwritten.setdefault(self._limited(key), Counts()).add(counts)

    async def run(self) -> None:
        """Writes new counts every ten seconds, until cancelled."""
        await run_every(WRITE_INTERVAL_S, "writing usage", self.write)

    async def write(self) -> None:
        """Writes all new counts in one transaction. Logs a failure, and keeps the counts."""
        # A read after this must find the counts that another task is writing.
        async with self._writing:
            writing, self._unwritten = self._unwritten, {}
            rows = [asdict(key) | asdict(counts) for key, counts in writing.items()]
            try:
                if rows:
                    async with self.database.writing(invalidates_caches=False) as session:
                        await session.exec(_UPSERT, params=rows)
                writing = {}
            except DataDirUnusable as error:
                log.warning("writing usage postponed: %s", error)
            finally:
                for key, counts in writing.items():
                    self.note(key, counts)

    async def sums(
        self,
        organization_id: OrganizationId,
        instance_id: InstanceId | None = None,
        session_key: str | None = None,
    ) -> list[UsageSum]:
        """The total usage of an organization, or one instance or session of it, by model."""
        await self.write()
        model, is_billed = col(UsageRow.model), col(UsageRow.is_billed)
        counts = [func.sum(getattr(UsageRow, name)) for name in COUNTED]
        query = select(model, is_billed, *counts).where(*_of_owner(organization_id, instance_id))
        if session_key is not None:
            query = query.where(UsageRow.session_key == session_key)
        async with self.database.reading() as session:
            rows = await session.exec(query.group_by(model, is_billed).order_by(model))
            return [UsageSum(row[0], row[1], Counts(*row[2:])) for row in rows]

    async def over_time(
        self, organization_id: OrganizationId, span: Span, instance_id: InstanceId | None = None
    ) -> tuple[list[UsagePart[date]], list[UsagePart[InstanceId]], int]:
        """The usage of an organization, or one instance of it, by day and by instance.

        Both are sums of the same rows, which are read once. There may be 100,000 instances: those
        beyond the largest are `OTHERS`. The last value is the number of all.
        """
        await self.write()
        day = col(UsageRow.day)
        by = (col(UsageRow.instance_id), day, col(UsageRow.model), col(UsageRow.is_billed))
        sums = [func.sum(getattr(UsageRow, name)).label(name) for name in COUNTED]
        conditions = (*_of_owner(organization_id, instance_id), day.between(span.first, span.last))
        # Grouped in the order of the index, which avoids a sort.
        read = select(*by, *sums).where(*conditions).group_by(*by).cte("read").c
        largest = (
            select(read.instance_id)
            .group_by(read.instance_id)
            .order_by(func.sum(read.input_tokens + read.output_tokens).desc(), read.instance_id)
            .limit(MOST_INSTANCES)
        )
        of_instance = case((read.instance_id.in_(largest), read.instance_id), else_=OTHERS)
        days, instances = (
            select(
                literal(number),
                cast(of, String),
                read.model,
                read.is_billed,
                *(func.sum(read[name]) for name in COUNTED),
            ).group_by(of, read.model, read.is_billed)
            for number, of in enumerate((read.day, of_instance))
        )
        count = select(
            literal(2), cast(func.count(distinct(read.instance_id)), String), *[literal(0)] * 9
        )
        async with self.database.reading() as session:
            results = await session.exec(union_all(days, instances, count))  # type: ignore[call-overload]  # SQLModel knows its own selects only
            *rows, (_, instance_count, *_) = sorted(tuple(row) for row in results)
        return (
            [_part(date.fromisoformat(row[1]), row) for row in rows if row[0] == 0],
            [_part(InstanceId(row[1]), row) for row in rows if row[0] == 1],
            int(instance_count),
        )

    async def rows(
        self,
        organization_id: OrganizationId,
        instance_id: InstanceId | None = None,
        *,
        limit: int,
    ) -> list[UsageOfDay]:
        """The usage of an organization or instance by day, session and model, latest day first."""
        await self.write()
        is_named = and_(
            col(SessionRow.instance_id) == col(UsageRow.instance_id),
            col(SessionRow.session_key) == col(UsageRow.session_key),
        )
        query = (
            select(UsageRow, SessionRow.name)
            .join(SessionRow, is_named, isouter=True)
            .where(*_of_owner(organization_id, instance_id))
            .order_by(col(UsageRow.day).desc(), *(col(getattr(UsageRow, each)) for each in _KEY))
            .limit(limit)
        )
        async with self.database.reading() as session:
            rows = await session.exec(query)
            return [_usage_of_day(row, name) for row, name in rows]

    def _limited(self, key: UsageKey) -> UsageKey:
        """The key, or a coarser one if its instance has too many keys today."""
        if key.day != self._day:
            self._day, self._keys = key.day, {}
        keys = self._keys.setdefault(key.instance_id, set())
        if key not in keys:
            if len(keys) >= MAX_KEYS_PER_DAY:
                return replace(key, session_key=UNSPECIFIED, model=UNSPECIFIED)
            keys.add(key)
        return key


def _part(of: Part, row: tuple[Any, ...]) -> UsagePart[Part]:
    return UsagePart(row[2], bool(row[3]), Counts(*row[4:]), of)


def _of_owner(
    organization_id: OrganizationId, instance_id: InstanceId | None
) -> list[ColumnElement[bool]]:
    if instance_id is not None:
        return [col(UsageRow.instance_id) == instance_id]
    owned = select(InstanceRow.id).where(col(InstanceRow.organization_id) == organization_id)
    return [col(UsageRow.instance_id).in_(owned)]


def _usage_of_day(row: UsageRow, session_name: str | None) -> UsageOfDay:
    columns = row.model_dump()
    counts = Counts(**{name: columns.pop(name) for name in COUNTED})
    return UsageOfDay(UsageKey(**columns), session_name, counts)


_KEY = ("instance_id", "session_key", "provider", "model", "is_billed")
_INSERT = insert(UsageRow)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["day", *_KEY],
    set_={name: getattr(UsageRow, name) + getattr(_INSERT.excluded, name) for name in COUNTED},
)
