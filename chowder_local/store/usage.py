"""What model calls cost: counted at once, written now and then, read in sums."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import String, and_, cast, func, literal, union_all
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col, select

from chowder_local.core.domain import InstanceId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import every
from chowder_local.store.tables import COUNTED, InstanceRow, SessionRow, UsageRow
from chowder_local.store.write_behind import WRITE_INTERVAL_S

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import ColumnElement

    from chowder_local.core.domain import OrganizationId
    from chowder_local.store.database import Database

Part = TypeVar("Part")

log = logging.getLogger(__name__)

KINDS_MAX = 10_000
"""So many rows a day may be of one instance: names are an agent's to choose, and disks are not."""
ELSEWHERE = ""
"""In place of a session's key that is not known, or is one too many; of a model's name, too."""


@dataclass(frozen=True)
class Kind:
    """What is counted together."""

    instance_id: InstanceId
    day: date
    session_key: str
    provider: str
    model: str
    is_billed: bool


@dataclass
class Counts:
    """Sums over some calls; those of the cache are among those of the input."""

    calls: int = 0
    unmetered_calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    long_cache_write_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: Counts) -> None:
        """Counts another sum in."""
        for name, count in asdict(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True)
class UsageSum:
    """What the calls of a model came to."""

    model: str
    is_billed: bool
    counts: Counts


@dataclass(frozen=True)
class UsagePart(UsageSum, Generic[Part]):
    """What they came to on one day or of one instance."""

    of: Part


@dataclass(frozen=True)
class Span:
    """Some days, the first and the last included."""

    first: date
    last: date


@dataclass(frozen=True)
class UsageOfDay:
    """What the calls of a kind came to; the name is that of a named conversation."""

    kind: Kind
    session_name: str | None
    counts: Counts


class UsageQueries:
    """What was used, by instance, conversation, model and day.

    A server that is killed forgets the calls of its last ten seconds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unwritten: dict[Kind, Counts] = {}
        self._writing = asyncio.Lock()
        self._day: date | None = None
        self._kinds: dict[InstanceId, set[Kind]] = {}

    def note(self, kind: Kind, counts: Counts) -> None:
        """Counts a call, without waiting for anything."""
        self._unwritten.setdefault(self._bounded(kind), Counts()).add(counts)

    async def run(self) -> None:
        """Writes again and again, until cancelled; a server that nobody uses writes nothing."""
        await every(WRITE_INTERVAL_S, "writing what model calls cost", self.write)

    async def write(self) -> None:
        """Writes all that was counted, in one transaction; what fails is put off with a warning."""
        # A read after this must find what another task is just writing.
        async with self._writing:
            writing, self._unwritten = self._unwritten, {}
            rows = [asdict(kind) | asdict(counts) for kind, counts in writing.items()]
            try:
                if rows:
                    async with self._database.writing(invalidates_caches=False) as session:
                        await session.exec(_ADDED, params=rows)
                writing = {}
            except DataDirUnusable as problem:
                log.warning("writing what model calls cost put off: %s", problem)
            finally:
                for kind, counts in writing.items():
                    self.note(kind, counts)

    async def sums(
        self, organization_id: OrganizationId, instance_id: InstanceId | None = None
    ) -> list[UsageSum]:
        """What an organization, or one instance of it, has used by now, by model."""
        await self.write()
        model, is_billed = col(UsageRow.model), col(UsageRow.is_billed)
        counts = [func.sum(getattr(UsageRow, name)) for name in COUNTED]
        question = select(model, is_billed, *counts).where(*_whose(organization_id, instance_id))
        async with self._database.reading() as session:
            rows = await session.exec(question.group_by(model, is_billed).order_by(model))
            return [UsageSum(row[0], row[1], Counts(*row[2:])) for row in rows]

    async def over_time(
        self, organization_id: OrganizationId, span: Span, instance_id: InstanceId | None = None
    ) -> tuple[list[UsagePart[date]], list[UsagePart[InstanceId]]]:
        """What an organization, or one instance of it, has used within some days.

        By day, and by instance: both are sums of the same, for which all is read only once.
        """
        await self.write()
        day = col(UsageRow.day)
        by = (col(UsageRow.instance_id), day, col(UsageRow.model), col(UsageRow.is_billed))
        sums = [func.sum(getattr(UsageRow, name)).label(name) for name in COUNTED]
        whose = (*_whose(organization_id, instance_id), day.between(span.first, span.last))
        # In the order of the index, so that nothing has to be sorted.
        read = select(*by, *sums).where(*whose).group_by(*by).cte("read").c
        days, instances = (
            select(
                literal(number),
                cast(of, String),
                read.model,
                read.is_billed,
                *(func.sum(read[name]) for name in COUNTED),
            ).group_by(of, read.model, read.is_billed)
            for number, of in enumerate((read.day, read.instance_id))
        )
        async with self._database.reading() as session:
            found = await session.exec(union_all(days, instances))  # type: ignore[call-overload]  # SQLModel knows its own selects only
            rows = sorted(tuple(row) for row in found)
        return (
            [_part(date.fromisoformat(row[1]), row) for row in rows if row[0] == 0],
            [_part(InstanceId(row[1]), row) for row in rows if row[0] == 1],
        )

    async def rows(
        self,
        organization_id: OrganizationId,
        instance_id: InstanceId | None = None,
        *,
        limit: int,
    ) -> list[UsageOfDay]:
        """What it has used by day, conversation and model, the latest days first."""
        await self.write()
        is_named = and_(
            col(SessionRow.instance_id) == col(UsageRow.instance_id),
            col(SessionRow.session_key) == col(UsageRow.session_key),
        )
        question = (
            select(UsageRow, SessionRow.name)
            .join(SessionRow, is_named, isouter=True)
            .where(*_whose(organization_id, instance_id))
            .order_by(col(UsageRow.day).desc(), *(col(getattr(UsageRow, each)) for each in _KEY))
            .limit(limit)
        )
        async with self._database.reading() as session:
            found = await session.exec(question)
            return [_of_day(row, name) for row, name in found]

    def _bounded(self, kind: Kind) -> Kind:
        """The kind, or a coarser one if its instance has too many of them today."""
        if kind.day != self._day:
            self._day, self._kinds = kind.day, {}
        known = self._kinds.setdefault(kind.instance_id, set())
        if kind not in known:
            if len(known) >= KINDS_MAX:
                return replace(kind, session_key=ELSEWHERE, model=ELSEWHERE)
            known.add(kind)
        return kind


def _part(of: Part, row: tuple[Any, ...]) -> UsagePart[Part]:
    return UsagePart(row[2], bool(row[3]), Counts(*row[4:]), of)


def _whose(
    organization_id: OrganizationId, instance_id: InstanceId | None
) -> list[ColumnElement[bool]]:
    if instance_id is not None:
        return [col(UsageRow.instance_id) == instance_id]
    owned = select(InstanceRow.id).where(col(InstanceRow.organization_id) == organization_id)
    return [col(UsageRow.instance_id).in_(owned)]


def _of_day(row: UsageRow, session_name: str | None) -> UsageOfDay:
    columns = row.model_dump()
    counts = Counts(**{name: columns.pop(name) for name in COUNTED})
    return UsageOfDay(Kind(**columns), session_name, counts)


_KEY = ("instance_id", "session_key", "provider", "model", "is_billed")
_NEW = insert(UsageRow)
_ADDED = _NEW.on_conflict_do_update(
    index_elements=["day", *_KEY],
    set_={name: getattr(UsageRow, name) + getattr(_NEW.excluded, name) for name in COUNTED},
)
