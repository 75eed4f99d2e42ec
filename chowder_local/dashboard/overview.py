"""The first page: the organization's instances with live updates, and the server's health."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.events import EventType
from chowder_local.dashboard.instances import MACROS, build_rows, find_instance
from chowder_local.dashboard.model_calls import snippets
from chowder_local.dashboard.pages import dashboard, page, part, parts, with_query
from chowder_local.dashboard.streams import (
    LiveStream,
    PageEvent,
    RowChanged,
    changed_rows,
    each_news,
    event_batches,
)
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Event
    from chowder_local.dashboard.streams import Marks

PORTION = 50
"""The number of rows that a page starts with, and that “Show more” adds."""
LISTED_STATUSES = tuple(each for each in InstanceStatus if each is not InstanceStatus.TERMINATED)
BOOT_EVENTS = {EventType.BOOT_QUEUED, EventType.BOOT_BEGUN, EventType.BOOT_ENDED}


class Filters(BaseModel):
    """Which instances the list shows, and where it starts."""

    q: str = Field("", max_length=128)
    status: InstanceStatus | None = None
    after: str | None = Field(None, max_length=64)
    """The last instance of the previous portion; for the stream, the last event before the page."""

    def address(self, path: str = "/", **changes: str | None) -> str:
        """The address of the page, or of another path, with these filters or changed ones."""
        values: dict[str, str | None] = {"q": self.q, "status": self.status}
        return with_query(path, **values | changes)

    def match(self, instance: Instance) -> bool:
        """Whether the list shows the instance, by the same rules as the store's search."""
        if instance.status not in LISTED_STATUSES or self.status not in {None, instance.status}:
            return False
        return self.q.lower() in instance.name.lower() or instance.id.startswith(self.q)


@dataclass(frozen=True)
class StatusChanged:
    """The page must announce an instance's new status."""

    instance_id: InstanceId


class Mark(Enum):
    USAGE_SAMPLED = auto()
    QUEUE_MOVED = auto()
    EVENTS_MISSED = auto()


async def show(request: Request) -> Response:
    """The page; htmx selects a part of it for a search and for more rows."""
    filters = parse_query(request, Filters)
    # The last event is read before the list: an event in between is sent twice rather than never.
    last_event = services(request).events.last_id
    matches = await services(request).directory.search(
        caller(request).organization_id,
        text=filters.q,
        status=filters.status,
        after_id=filters.after,
        limit=PORTION + 1,
    )
    rows = await build_rows(request, matches[:PORTION])
    running = (row.instance for row in rows if row.instance.status is InstanceStatus.RUNNING)
    return await page(
        request,
        "overview.html",
        here="/",
        filters=filters,
        rows=rows,
        more=filters.address(after=rows[-1].instance.id) if len(matches) > PORTION else None,
        live=filters.address("/overview/live", after=last_event),
        counts=await _counts(request),
        base_url=dashboard(request).base_url,
        env_command=dashboard(request).env_command,
        snippets=snippets(next(running, None)),
    )


async def show_health(request: Request) -> Response:
    """The current findings of `doctor`, with their remedies."""
    report, findings = await services(request).server_diagnosis.report()
    return parts(part(request, MACROS, "health", report, findings))


async def _counts(request: Request) -> dict[InstanceStatus, int]:
    counts = await services(request).directory.counts(caller(request).organization_id)
    return {each: counts[each] for each in LISTED_STATUSES}


async def follow(request: Request) -> Response:
    """Changes of the list's rows, counts and charts."""
    overview = _LiveOverview(request, parse_query(request, Filters))
    return LiveStream(request, [overview.watch_events, overview.watch_usage], overview.render)


@dataclass(eq=False, repr=False)
class _LiveOverview:
    """The list of one open page."""

    request: Request
    filters: Filters

    def __post_init__(self) -> None:
        self._services = services(self.request)
        self._usage_samples = services(self.request).usage_samples
        self._organization_id = caller(self.request).organization_id
        self._last_calls: dict[InstanceId, tuple[str, bool]] = {}
        self._event_id: str | None = None

    async def watch_events(self, marks: Marks) -> None:
        after = self.request.headers.get("Last-Event-ID") or self.filters.after
        async for batch in event_batches(self.request, after):
            for event in batch:
                self._event_id = self._services.events.id_of(event.number)
                marks.add(*_marks_of(event, self.filters.status))

    async def watch_usage(self, marks: Marks) -> None:
        """Marks new samples, and instances with new model calls since the last sample."""
        async for _ in each_news(self._usage_samples.watching()):
            marks.add(Mark.USAGE_SAMPLED, *self._new_calls())

    async def render(self, marks: frozenset[Hashable]) -> PageEvent:
        event_id = self._event_id
        changed = changed_rows(marks)
        if changed is None or Mark.EVENTS_MISSED in marks:
            return PageEvent(name="stale", event_id=event_id)
        matching, gone = await self._find(changed)
        html = [self._part("removed_row", each) for each in gone]
        if Mark.QUEUE_MOVED in marks:
            html += await self._rows(
                each for each in await self._queued() if each.id not in changed
            )
        html += await self._rows(each for each in matching if not changed[each.id])
        html += await self._rows((each for each in matching if changed[each.id]), "added_row")
        if Mark.USAGE_SAMPLED in marks:
            html += await self._rows(await self._sampled(), "gauges")
        if changed:
            counts = await _counts(self.request)
            html.append(self._part("counted", counts, self.filters, oob=True))
        announced = {each.instance_id for each in marks if isinstance(each, StatusChanged)}
        if announced_instances := [each for each in (*matching, *gone) if each.id in announced]:
            html.append(self._part("announced", announced_instances))
        return PageEvent("\n".join(html), event_id=event_id)

    async def _rows(
        self, instances: Iterable[Instance], macro: str = "replaced_row"
    ) -> list[Markup]:
        rows = await build_rows(self.request, list(instances))
        return [self._part(macro, each) for each in rows]

    def _part(self, macro: str, *args: object, **options: object) -> Markup:
        return part(self.request, MACROS, macro, *args, **options)

    def _new_calls(self) -> list[RowChanged]:
        """The instances whose latest model call began or ended since the last check."""
        latest = {
            instance_id: (each.id, each.outcome is not None)
            for instance_id, each in self._services.call_log.latest().items()
            if each.organization_id == self._organization_id
        }
        before, self._last_calls = self._last_calls, latest
        return [RowChanged(each) for each, call in latest.items() if before.get(each) != call]

    async def _find(self, instance_ids: Iterable[str]) -> tuple[list[Instance], list[Instance]]:
        """The instances that match the filters, and those that do not, or not any more."""
        matching: list[Instance] = []
        gone: list[Instance] = []
        for each in instance_ids:
            if (instance := await find_instance(self.request, each)) is not None:
                (matching if self.filters.match(instance) else gone).append(instance)
        return matching, gone

    async def _queued(self) -> list[Instance]:
        instances = await self._services.directory.search(
            self._organization_id, status=InstanceStatus.PROVISIONING, limit=PORTION
        )
        return [each for each in instances if self.filters.match(each)]

    async def _sampled(self) -> list[Instance]:
        ids = self._usage_samples.instance_ids()
        # `find_instance` returns None for instances of other organizations.
        instances = [await find_instance(self.request, each) for each in ids]
        return [each for each in instances if each is not None]


def _marks_of(event: Event, status: InstanceStatus | None) -> list[Hashable]:
    if event.type is EventType.EVENTS_MISSED:
        return [Mark.EVENTS_MISSED]
    if event.instance_id is None:
        return []
    if event.type in BOOT_EVENTS:
        return [RowChanged(event.instance_id), Mark.QUEUE_MOVED]
    if event.type is EventType.INSTANCE_STATUS:
        before = event.members["before"]
        # The new status may have added the instance to the filtered list.
        is_new = before is None or (status is not None and before != status)
        return [RowChanged(event.instance_id, is_new), StatusChanged(event.instance_id)]
    return [RowChanged(event.instance_id)]
