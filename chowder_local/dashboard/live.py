"""Handlers: what happens to the instances of the overview, as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field
from starlette.responses import Response

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.errors.requests import InstanceNotFound
from chowder_local.core.events import EventType
from chowder_local.dashboard.instance_rows import STAGES, rows
from chowder_local.dashboard.overview import LIVING, PORTION, Wanted, counts
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard
from chowder_local.dashboard.streams import MEDIA_TYPE, Live, Told
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services
from chowder_local.http.streams import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Event
    from chowder_local.dashboard.streams import Marks

AT_ONCE = 100
"""If more lines have changed, the page is told to look at the list again."""
BOOTS = {EventType.BOOT_QUEUED, EventType.BOOT_BEGUN, EventType.BOOT_ENDED}


class Followed(Wanted):
    """The list that the page shows, and from which event on."""

    after: str | None = Field(None, max_length=64)


@dataclass(frozen=True)
class Changed:
    """An instance whose line may be another; `is_new` if the list may not have had it."""

    instance_id: InstanceId
    is_new: bool = False


@dataclass(frozen=True)
class Status:
    """An instance that has come to a status, for who cannot see the lines."""

    instance_id: InstanceId


@dataclass(frozen=True)
class Gauged:
    """There are new readings."""


@dataclass(frozen=True)
class Boots:
    """Places in the queue have changed."""


@dataclass(frozen=True)
class Missed:
    """Some of it is lost, so that the whole list is to be looked at again."""


async def follow(request: Request) -> Response:
    """Lines, counts and charts of the list that is looked at."""
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=HEADERS | EVENT_STREAM)
    overview = _Overview(request, parse_query(request, Followed))
    return Live(request, [overview.events, overview.readings], overview.told)


class _Overview:
    """One page that somebody looks at."""

    def __init__(self, request: Request, wanted: Followed) -> None:
        self._request = request
        self._wanted = wanted
        self._known = services(request)
        self._dashboard = dashboard(request)
        self._organization_id = caller(request).organization_id
        self._last_calls: dict[InstanceId, tuple[str, bool]] = {}
        self._event_id: str | None = None

    async def events(self, marks: Marks) -> None:
        """Marks what the server decides."""
        last_id = self._request.headers.get("Last-Event-ID") or self._wanted.after
        events, is_outrun = self._known.events, True
        while is_outrun:
            with events.follow(self._organization_id, last_id) as follower:
                async for batch in follower.batches():
                    for event in batch:
                        self._event_id = events.id_of(event.number)
                        marks.add(*_marks_of(event, self._wanted.status))
                is_outrun = follower.is_outrun.is_set()
            # From what is lost the page recovers by looking at the whole list.
            last_id = "lost"

    async def readings(self, marks: Marks) -> None:
        """Marks new readings, and agents that have asked their model something since."""
        usage_samples = self._dashboard.usage_samples
        with usage_samples.watching() as news:
            while True:
                await news.wait()
                news.clear()
                marks.add(Gauged(), *self._called())

    async def told(self, marks: frozenset[Hashable]) -> Told:
        """Everything that has changed, as parts of the page."""
        event_id = self._event_id
        changed = {each.instance_id: each for each in marks if isinstance(each, Changed)}
        # Of one that is both, the newness counts.
        changed |= {each.instance_id: each for each in marks
                    if isinstance(each, Changed) and each.is_new}  # fmt: skip
        if len(changed) > AT_ONCE or Missed() in marks:
            return Told(event="stale", event_id=event_id)
        shown, gone = await self._shown(changed)
        if Boots() in marks:
            shown += [each for each in await self._waiting() if each.id not in changed]
        new = {each.id for each in shown if (mark := changed.get(each.id)) and mark.is_new}
        said = {each.instance_id for each in marks if isinstance(each, Status)}
        html = self._dashboard.rendering.html(
            "live.html",
            changed=await rows(self._request, [each for each in shown if each.id not in new]),
            added=await rows(self._request, [each for each in shown if each.id in new]),
            gone=gone,
            gauged=await rows(self._request, await self._gauged()) if Gauged() in marks else [],
            counts=await counts(self._request) if changed else None,
            said=[each for each in (*shown, *gone) if each.id in said],
            wanted=self._wanted,
            statuses=LIVING,
            stages=STAGES,
        )
        return Told(html, event_id=event_id)

    def _called(self) -> list[Changed]:
        """Those whose latest model call is another, or is over, since this was asked last."""
        latest = {
            instance_id: (each.id, each.outcome is not None)
            for instance_id, each in self._known.exchanges.latest().items()
            if each.organization_id == self._organization_id
        }
        before, self._last_calls = self._last_calls, latest
        return [Changed(each) for each, call in latest.items() if before.get(each) != call]

    async def _shown(
        self, changed: dict[InstanceId, Changed]
    ) -> tuple[list[Instance], list[Instance]]:
        """Those that are of the list, and those that are not, or not any more."""
        shown: list[Instance] = []
        gone: list[Instance] = []
        for instance_id in changed:
            try:
                found = await self._known.directory.get(self._organization_id, instance_id)
            except InstanceNotFound:
                continue
            (shown if self._wanted.shows(found) else gone).append(found)
        return shown, gone

    async def _waiting(self) -> list[Instance]:
        found = await self._known.directory.search(
            self._organization_id, status=InstanceStatus.PROVISIONING, limit=PORTION
        )
        return [each for each in found if self._wanted.shows(each)]

    async def _gauged(self) -> list[Instance]:
        found = []
        for instance_id in self._dashboard.usage_samples.known():
            try:
                found.append(await self._known.directory.get(self._organization_id, instance_id))
            except InstanceNotFound:
                # Another organization's.
                continue
        return found


def _marks_of(event: Event, wanted: InstanceStatus | None) -> list[Hashable]:
    if event.type is EventType.EVENTS_MISSED:
        return [Missed()]
    if event.instance_id is None:
        return []
    if event.type in BOOTS:
        return [Changed(event.instance_id), Boots()]
    if event.type is EventType.INSTANCE_STATUS:
        before = event.more["before"]
        # One that has come to be of the list by its status is as good as new to it.
        is_new = before is None or (wanted is not None and before != wanted)
        return [Changed(event.instance_id, is_new), Status(event.instance_id)]
    return [Changed(event.instance_id)]
