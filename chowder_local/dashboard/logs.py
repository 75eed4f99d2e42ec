"""What an instance's sandbox prints, line by line as it is printed."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import instance_page
from chowder_local.dashboard.streams import LiveStream, PageEvent, watch_events
from chowder_local.http.services import caller, instance_of, services

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.streams import Marks

KEPT = 1000
"""A page begins with so many lines, and so many wait at most for a slow client."""
LINE_MAX_CHARS = 4000
"""A longer line is cut, and ends with an ellipsis."""
CHANGED = "changed"
RESTART_EVENTS = {
    EventType.INSTANCE_STATUS,
    EventType.BOOT_ENDED,
    EventType.SANDBOX_RELEASED,
    EventType.SANDBOX_RESUMED,
    EventType.SANDBOX_RECONCILED,
    EventType.ENGINE_BACK,
}
"""After these a log that had ended, or was not there, may continue."""
# Colours and other control sequences of terminals, as ECMA-48 defines them.
_CONTROLS = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])"
)


class LineSplitter:
    """Makes lines of pieces; only the beginning of an unfinished line is kept."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def feed(self, piece: bytes) -> list[str]:
        """The lines that this piece has completed."""
        *ended, begun = self._decoder.decode(piece).split("\n")
        if ended:
            ended[0] = self._begun + ended[0]
            self._begun = begun
        else:
            # Longer than LINE_MAX_CHARS, so that it is seen to be cut.
            self._begun = (self._begun + begun)[: 2 * LINE_MAX_CHARS]
        return [_plain(each) for each in ended]

    def finish(self) -> list[str]:
        """The last line, if it has no end, once nothing more comes."""
        begun, self._begun = self._begun + self._decoder.decode(b"", final=True), ""
        return [_plain(begun)] if begun else []


async def show(request: Request) -> Response:
    """The page; all lines come by its stream."""
    return await instance_page(
        request, "logs.html", await instance_of(request), tab="/logs", kept=KEPT
    )


async def follow(request: Request) -> Response:
    """The last lines, and those that are printed from now on, by later sandboxes, too."""
    log = _FollowedLog(request, await instance_of(request))
    return LiveStream(request, [log.read, log.watch_instance], log.render)


class _FollowedLog:
    """The log of one open page."""

    def __init__(self, request: Request, instance: Instance) -> None:
        self._request = request
        self._services = services(request)
        self._instance_id = instance.id
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._left_out = 0
        self._is_new = True
        self._why = ""
        self._may_continue = asyncio.Event()

    async def read(self, marks: Marks) -> None:
        """Marks lines; at the end of a log, it waits until there may be another one."""
        while True:
            self._may_continue.clear()
            self._begin()
            marks.add(CHANGED)
            try:
                await self._read_to_end(marks)
                self._why = "It has ended; what it prints once it runs again follows here."
            except ChowderError as problem:
                self._why = f"There is no log now: {problem}"
            marks.add(CHANGED)
            await self._may_continue.wait()

    async def watch_instance(self, marks: Marks) -> None:
        """Has an ended log read again, and marks that the instance's status may have changed."""

        def notify() -> None:
            self._may_continue.set()
            marks.add(CHANGED)

        await watch_events(self._request, RESTART_EVENTS, notify, instance_id=self._instance_id)

    async def render(self, _: frozenset[Hashable]) -> PageEvent:
        """The lines since the last event, as JSON.

        `is_new`: they replace all earlier ones; `left_out`: the number of lines that were dropped;
        `why`: why there may be none.
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
        return PageEvent(json.dumps(content), name="log")

    async def _instance(self) -> Instance:
        organization_id = caller(self._request).organization_id
        return await self._services.directory.get(organization_id, self._instance_id)

    def _begin(self) -> None:
        self._lines.clear()
        self._left_out, self._is_new, self._why = 0, True, ""

    async def _read_to_end(self, marks: Marks) -> None:
        splitter = LineSplitter()
        sandbox_id = (await self._instance()).sandbox_id
        log = self._services.engine.follow_log(sandbox_id, KEPT)
        async with aclosing(log) as pieces:  # type: ignore[type-var]  # a generator
            async for piece in pieces:
                self._add(splitter.feed(piece))
                marks.add(CHANGED)
        self._add(splitter.finish())

    def _add(self, lines: list[str]) -> None:
        self._left_out += max(0, len(self._lines) + len(lines) - KEPT)
        self._lines.extend(lines)


def _plain(line: str) -> str:
    """A line without control sequences, cut to LINE_MAX_CHARS."""
    plain = _CONTROLS.sub("", line[: 2 * LINE_MAX_CHARS]).rstrip("\r")
    return plain if len(plain) <= LINE_MAX_CHARS else f"{plain[:LINE_MAX_CHARS]}…"
