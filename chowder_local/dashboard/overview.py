"""The first page: the organization's instances as they change, and the server's health."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.events import EventType
from chowder_local.dashboard.forms import with_query
from chowder_local.dashboard.instances import MACROS, build_rows, find_instance
from chowder_local.dashboard.pages import page, part, parts
from chowder_local.dashboard.services import dashboard
from chowder_local.dashboard.snippets import snippets
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
"""So many rows are shown at first, and each time that more are asked for."""
LISTED_STATUSES = tuple(each for each in InstanceStatus if each is not InstanceStatus.TERMINATED)
BOOT_EVENTS = {EventType.BOOT_QUEUED, EventType.BOOT_BEGUN, EventType.BOOT_ENDED}


class Filters(BaseModel):
    """Which instances the list shows, and from where on."""

    q: str = Field("", max_length=128)
    status: InstanceStatus | None = None
    after: str | None = Field(None, max_length=64)
    """The last instance of the portion before; for the stream, the last event before the page."""

    def address(self, path: str = "/", **changes: str | None) -> str:
        """The page, or another address, with these filters or changed ones."""
        values: dict[str, str | None] = {"q": self.q, "status": self.status}
        return with_query(path, **values | changes)

    def match(self, instance: Instance) -> bool:
        """Whether the list shows it, as the store would decide it."""
        if instance.status not in LISTED_STATUSES or self.status not in {None, instance.status}:
            return False
        return self.q.lower() in instance.name.lower() or instance.id.startswith(self.q)


@dataclass(frozen=True)
class StatusChanged:
    """An instance's new status is to be announced."""

    instance_id: InstanceId


class Mark(Enum):
    USAGE_SAMPLED = auto()
    QUEUE_MOVED = auto()
    EVENTS_MISSED = auto()


async def show(request: Request) -> Response:
    """The page; a search, and more rows, are parts of it that htmx selects."""
    filters = parse_query(request, Filters)
    known = services(request)
    # Before the list is read: what happens in between is sent twice rather than never.
    last_event = known.events.last_id
    found = await known.directory.search(
        caller(request).organization_id,
        text=filters.q,
        status=filters.status,
        after_id=filters.after,
        limit=PORTION + 1,
    )
    shown = await build_rows(request, found[:PORTION])
    running = (row.instance for row in shown if row.instance.status is InstanceStatus.RUNNING)
    return await page(
        request,
        "overview.html",
        here="/",
        filters=filters,
        rows=shown,
        more=filters.address(after=shown[-1].instance.id) if len(found) > PORTION else None,
        live=filters.address("/live", after=last_event),
        counts=await _counts(request),
        base_url=dashboard(request).base_url,
        env_command=dashboard(request).env_command,
        snippets=snippets(next(running, None)),
    )


async def show_health(request: Request) -> Response:
    """What `doctor` would say now, with its cures."""
    report, findings = await dashboard(request).server_diagnosis.report()
    return parts(part(request, MACROS, "health", report, findings))


async def _counts(request: Request) -> dict[InstanceStatus, int]:
    counts = await services(request).directory.counts(caller(request).organization_id)
    return {each: counts[each] for each in LISTED_STATUSES}


async def follow(request: Request) -> Response:
    """Rows, counts and charts of the list, as they change."""
    overview = _FollowedOverview(request, parse_query(request, Filters))
    return LiveStream(request, [overview.watch_events, overview.watch_usage], overview.render)


class _FollowedOverview:
    """The list of one open page."""

    def __init__(self, request: Request, filters: Filters) -> None:
        self._request = request
        self._filters = filters
        self._services = services(request)
        self._usage_samples = dashboard(request).usage_samples
        self._organization_id = caller(request).organization_id
        self._last_calls: dict[InstanceId, tuple[str, bool]] = {}
        self._event_id: str | None = None

    async def watch_events(self, marks: Marks) -> None:
        after = self._request.headers.get("Last-Event-ID") or self._filters.after
        async for batch in event_batches(self._request, after):
            for event in batch:
                self._event_id = self._services.events.id_of(event.number)
                marks.add(*_marks_of(event, self._filters.status))

    async def watch_usage(self, marks: Marks) -> None:
        """Marks new samples, and instances that have called their model since."""
        async for _ in each_news(self._usage_samples.watching()):
            marks.add(Mark.USAGE_SAMPLED, *self._new_calls())

    async def render(self, marks: frozenset[Hashable]) -> PageEvent:
        event_id = self._event_id
        changed = changed_rows(marks)
        if changed is None or Mark.EVENTS_MISSED in marks:
            return PageEvent(name="stale", event_id=event_id)
        shown, gone = await self._find(changed)
        html = [self._part("removed_row", each) for each in gone]
        if Mark.QUEUE_MOVED in marks:
            html += await self._rows(
                each for each in await self._queued() if each.id not in changed
            )
        html += await self._rows(each for each in shown if not changed[each.id])
        html += await self._rows((each for each in shown if changed[each.id]), "added_row")
        if Mark.USAGE_SAMPLED in marks:
            html += await self._rows(await self._sampled(), "gauges")
        if changed:
            counts = await _counts(self._request)
            html.append(self._part("counted", counts, self._filters, oob=True))
        announced = {each.instance_id for each in marks if isinstance(each, StatusChanged)}
        if announced_instances := [each for each in (*shown, *gone) if each.id in announced]:
            html.append(self._part("announced", announced_instances))
        return PageEvent("\n".join(html), event_id=event_id)

    async def _rows(
        self, instances: Iterable[Instance], macro: str = "replaced_row"
    ) -> list[Markup]:
        rows = await build_rows(self._request, list(instances))
        return [self._part(macro, each) for each in rows]

    def _part(self, macro: str, *args: object, **options: object) -> Markup:
        return part(self._request, MACROS, macro, *args, **options)

    def _new_calls(self) -> list[RowChanged]:
        """The instances whose latest model call is another one, or is over, since the last time."""
        latest = {
            instance_id: (each.id, each.outcome is not None)
            for instance_id, each in self._services.exchanges.latest().items()
            if each.organization_id == self._organization_id
        }
        before, self._last_calls = self._last_calls, latest
        return [RowChanged(each) for each, call in latest.items() if before.get(each) != call]

    async def _find(self, instance_ids: Iterable[str]) -> tuple[list[Instance], list[Instance]]:
        """Those that the list shows, and those that it does not, or not any more."""
        shown: list[Instance] = []
        gone: list[Instance] = []
        for each in instance_ids:
            if (found := await find_instance(self._request, each)) is not None:
                (shown if self._filters.match(found) else gone).append(found)
        return shown, gone

    async def _queued(self) -> list[Instance]:
        found = await self._services.directory.search(
            self._organization_id, status=InstanceStatus.PROVISIONING, limit=PORTION
        )
        return [each for each in found if self._filters.match(each)]

    async def _sampled(self) -> list[Instance]:
        ids = self._usage_samples.known()
        # Others are of other organizations.
        found = [await find_instance(self._request, each) for each in ids]
        return [each for each in found if each is not None]


def _marks_of(event: Event, status: InstanceStatus | None) -> list[Hashable]:
    if event.type is EventType.EVENTS_MISSED:
        return [Mark.EVENTS_MISSED]
    if event.instance_id is None:
        return []
    if event.type in BOOT_EVENTS:
        return [RowChanged(event.instance_id), Mark.QUEUE_MOVED]
    if event.type is EventType.INSTANCE_STATUS:
        before = event.more["before"]
        # An instance that its status brings into the list is new there.
        is_new = before is None or (status is not None and before != status)
        return [RowChanged(event.instance_id, is_new), StatusChanged(event.instance_id)]
    return [RowChanged(event.instance_id)]
