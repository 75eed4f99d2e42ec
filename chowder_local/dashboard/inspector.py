"""Handlers: the model calls of all agents, the latest first, as they begin and end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import dropwhile, islice
from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.core.domain import InstanceId
from chowder_local.dashboard.call_rows import CallStatus, CallsWanted, call_lines
from chowder_local.dashboard.instance_names import instance_names
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard, page
from chowder_local.dashboard.streams import MEDIA_TYPE, Live, Told
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services
from chowder_local.http.streams import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from starlette.requests import Request

    from chowder_local.dashboard.call_rows import CallLine
    from chowder_local.dashboard.streams import Marks
    from chowder_local.relay.call_log import LoggedCall

HERE = "/inspector"
NONE = "none"
"""The latest call of a list without any."""
PORTION = 50
AT_ONCE = 100
"""If more lines have changed, the page is told to look at the list again."""


async def show(request: Request) -> Response:
    """The page; a search, and more lines, are parts of it that htmx takes out."""
    wanted = parse_query(request, CallsWanted)
    # Before the list is read: what happens in between is told twice rather than never.
    latest = next(_of(request, wanted), None)
    found = await _found(request, wanted)
    shown = found[:PORTION]
    return await page(
        request,
        "inspector.html",
        here=HERE,
        wanted=wanted,
        lines=shown,
        more=wanted.address(before=shown[-1].call.id) if len(found) > PORTION else None,
        live=wanted.address(f"{HERE}/live", since=latest.id if latest else NONE),
        statuses=list(CallStatus),
        models=await asyncio.to_thread(_models, _all(request), wanted),
        instances=await instance_names(request, _instances(request, wanted)),
    )


async def follow(request: Request) -> Response:
    """Calls that begin and end, put into the list that is looked at."""
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=HEADERS | EVENT_STREAM)
    inspector = _Inspector(request, parse_query(request, CallsWanted))
    return Live(request, [inspector.calls], inspector.told)


@dataclass(frozen=True)
class Changed:
    """A call that has begun or ended; `is_new` if the list may not have had it."""

    call_id: str
    is_new: bool


class _Inspector:
    """One page that somebody looks at."""

    def __init__(self, request: Request, wanted: CallsWanted) -> None:
        self._request = request
        self._wanted = wanted
        self._exchanges = services(request).exchanges
        self._organization_id = caller(request).organization_id

    async def calls(self, marks: Marks) -> None:
        """Marks what has changed since it looked last."""
        known = self._stages()
        marks.add(*self._missed())
        with self._exchanges.watching() as news:
            while True:
                await news.wait()
                news.clear()
                now = self._stages()
                marks.add(
                    *(
                        Changed(each, each not in known)
                        for each, stage in now.items()
                        if each not in known or known[each] != stage
                    )
                )
                known = now

    def _stages(self) -> dict[str, Hashable]:
        """What of each call is seen in its line."""
        calls = _of(self._request, self._wanted)
        return {each.id: (each.outcome, len(each.tries)) for each in calls}

    def _missed(self) -> list[Changed]:
        """What may have come or changed since the page was made, or since a stream broke off."""
        shown = [each.id for each in islice(_of(self._request, self._wanted), PORTION)]
        since = self._wanted.since
        new = shown.index(since) if since in shown else len(shown)
        return [Changed(each, at < new) for at, each in enumerate(shown)]

    async def told(self, marks: frozenset[Hashable]) -> Told:
        """All of it, as lines."""
        new = {each.call_id: each.is_new for each in marks if isinstance(each, Changed)}
        # One that has begun and ended meanwhile is new all the same.
        new |= {each.call_id: True for each in marks if isinstance(each, Changed) and each.is_new}
        if len(new) > AT_ONCE:
            return Told(event="stale")
        kept = [each for each in _of(self._request, self._wanted) if each.id in new]
        lines = await call_lines(self._request, kept)
        shown = [each for each in lines if self._wanted.shows(each)]
        # Its status may have brought it into the list, or out of it.
        is_by_status = self._wanted.status is not None
        html = dashboard(self._request).rendering.html(
            "inspector_live.html",
            added=[each for each in shown if new[each.call.id] or is_by_status],
            changed=[each for each in shown if not (new[each.call.id] or is_by_status)],
            gone=[each for each in lines if each not in shown] if is_by_status else [],
        )
        return Told(html)


def _of(request: Request, wanted: CallsWanted) -> Iterator[LoggedCall]:
    """The organization's, or those of one of its instances."""
    return (each for each in _all(request) if wanted.instance in {"", each.instance_id})


def _all(request: Request) -> list[LoggedCall]:
    organization_id = caller(request).organization_id
    return list(services(request).exchanges.of_organization(organization_id))


def _models(calls: Sequence[LoggedCall], wanted: CallsWanted) -> list[str]:
    """Those to choose from. Each call is read once, for that a thread is wanted."""
    asked = {each.model or each.provider for each in calls}
    return sorted(asked | ({wanted.model} if wanted.model else set()))


def _instances(request: Request, wanted: CallsWanted) -> list[InstanceId]:
    """Those that have asked something, the one that asked last first."""
    ids = [each.instance_id for each in _all(request)]
    if wanted.instance:
        ids.append(InstanceId(wanted.instance))
    return [each for each in dict.fromkeys(ids) if each is not None]


async def _found(request: Request, wanted: CallsWanted) -> list[CallLine]:
    """One more than a portion, if there are so many."""
    calls = _of(request, wanted)
    if wanted.before is not None:
        calls = islice(dropwhile(lambda each: each.id != wanted.before, calls), 1, None)
    found: list[CallLine] = []
    while len(found) <= PORTION and (batch := list(islice(calls, PORTION + 1))):
        found += [each for each in await call_lines(request, batch) if wanted.shows(each)]
    return found[: PORTION + 1]
