"""Handlers: what an instance's sandbox has printed, and goes on to print."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.events import EventType
from chowder_local.dashboard.event_watch import watch
from chowder_local.dashboard.log_lines import Lines
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.streams import MEDIA_TYPE, Live, Told
from chowder_local.dashboard.tabs import instance_page
from chowder_local.http.services import caller, instance_of, services
from chowder_local.http.streams import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.streams import Marks

KEPT = 1000
"""So many lines a page begins with, and as many wait at most for one that reads slowly."""
NEWS = "news"
LIFE = {
    EventType.INSTANCE_STATUS,
    EventType.BOOT_ENDED,
    EventType.SANDBOX_RELEASED,
    EventType.SANDBOX_RESUMED,
    EventType.SANDBOX_RECONCILED,
    EventType.ENGINE_BACK,
}
"""After these a log that had ended, or was not there, may go on."""


async def show(request: Request) -> Response:
    """The page; all lines come by its stream."""
    return await instance_page(
        request, "logs.html", await instance_of(request), tab="/logs", kept=KEPT
    )


async def follow(request: Request) -> Response:
    """The last lines, and then what is printed from now on, also after a new beginning."""
    instance = await instance_of(request)
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=HEADERS | EVENT_STREAM)
    log = _Log(request, instance)
    return Live(request, [log.printed, log.life], log.told)


class _Log:
    """One page that somebody looks at."""

    def __init__(self, request: Request, instance: Instance) -> None:
        self._request = request
        self._known = services(request)
        self._instance_id = instance.id
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._left_out = 0
        self._is_new = True
        self._why = ""
        self._again = asyncio.Event()

    async def printed(self, marks: Marks) -> None:
        """Marks lines; when there are no more, it waits until there may be."""
        while True:
            self._again.clear()
            self._begin()
            marks.add(NEWS)
            try:
                await self._read(marks)
                self._why = "It has ended; what it prints once it runs again follows here."
            except ChowderError as problem:
                self._why = f"There is no log now: {problem}"
            marks.add(NEWS)
            await self._again.wait()

    async def life(self, marks: Marks) -> None:
        """Has an ended log looked for again, and marks that the instance may be another one."""

        def notice() -> None:
            self._again.set()
            marks.add(NEWS)

        await watch(self._request, LIFE, notice, instance_id=self._instance_id)

    async def told(self, _: frozenset[Hashable]) -> Told:
        """The lines since the last telling; `is_new` if they take the place of all before.

        `why` says why there may be none.
        """
        status = (await self._instance()).status
        why = "It is stopped, and prints nothing until it is started."
        lines, self._lines = [*self._lines], deque(maxlen=KEPT)
        content = {
            "lines": lines,
            "left_out": self._left_out,
            "is_new": self._is_new,
            "why": why if status is InstanceStatus.STOPPED else self._why,
            "status": status,
        }
        self._left_out, self._is_new = 0, False
        return Told(json.dumps(content), event="log")

    async def _instance(self) -> Instance:
        organization_id = caller(self._request).organization_id
        return await self._known.directory.get(organization_id, self._instance_id)

    def _begin(self) -> None:
        self._lines.clear()
        self._left_out, self._is_new, self._why = 0, True, ""

    async def _read(self, marks: Marks) -> None:
        lines = Lines()
        sandbox_id = (await self._instance()).sandbox_id
        log = self._known.engine.follow_log(sandbox_id, KEPT)
        async with aclosing(log) as pieces:  # type: ignore[type-var]  # a generator
            async for piece in pieces:
                self._add(lines.fed(piece))
                marks.add(NEWS)
        self._add(lines.rest())

    def _add(self, lines: list[str]) -> None:
        self._left_out += max(0, len(self._lines) + len(lines) - KEPT)
        self._lines.extend(lines)
