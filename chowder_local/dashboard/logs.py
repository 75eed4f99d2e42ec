"""The live log of an instance's sandbox, line by line."""

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
from chowder_local.http.services import caller, instance_of, running, services

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.streams import Marks

KEPT = 1000
"""The lines that a page starts with, and the most that wait for a slow client."""
LINE_MAX_CHARS = 4000
"""Longer lines are cut, and end with an ellipsis."""
CHANGED = "changed"
RESTART_EVENTS = {
    EventType.INSTANCE_STATUS,
    EventType.BOOT_ENDED,
    EventType.SANDBOX_RELEASED,
    EventType.SANDBOX_RESUMED,
    EventType.SANDBOX_RECONCILED,
    EventType.INSTANCE_RESUMED,
    EventType.ENGINE_BACK,
}
"""After these events, a log that ended or could not be read may continue."""
# Colours and other control sequences of terminals, as ECMA-48 defines them.
_CONTROLS = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])"
)


class LineSplitter:
    """Splits a stream of bytes into lines; it keeps only the beginning of an unfinished line."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unfinished = ""

    def feed(self, piece: bytes) -> list[str]:
        """The lines that this piece completes."""
        *ended, unfinished = self._decoder.decode(piece).split("\n")
        if ended:
            ended[0] = self._unfinished + ended[0]
            self._unfinished = unfinished
        else:
            # More than LINE_MAX_CHARS, so that `_plain` cuts the line and marks the cut.
            self._unfinished = (self._unfinished + unfinished)[: 2 * LINE_MAX_CHARS]
        return [_plain(each) for each in ended]

    def finish(self) -> list[str]:
        """The last line, if no line end follows it; call it once, after the last piece."""
        unfinished, self._unfinished = self._unfinished + self._decoder.decode(b"", final=True), ""
        return [_plain(unfinished)] if unfinished else []


async def show(request: Request) -> Response:
    """The page; its stream brings the lines."""
    return await instance_page(
        request, "logs.html", await instance_of(request), tab="/logs", kept=KEPT
    )


async def follow(request: Request) -> Response:
    """The last lines, then new lines, also those of the instance's later sandboxes."""
    instance = await instance_of(request)
    if instance.is_in_memory:
        # An agent whose log is followed counts as used, so that it does not leave memory.
        instance = await running(request, instance)
    log = _LiveLog(request, instance)
    return LiveStream(request, [log.read, log.watch_instance], log.render)


class _LiveLog:
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
        """Reads and marks lines; at the end of a log, waits until the log may continue."""
        while True:
            self._may_continue.clear()
            self._begin()
            marks.add(CHANGED)
            try:
                await self._read_to_end(marks)
                self._why = "The log has ended. It continues here once the sandbox runs again."
            except ChowderError as error:
                self._why = f"The log cannot be read: {error}"
            marks.add(CHANGED)
            await self._may_continue.wait()

    async def watch_instance(self, marks: Marks) -> None:
        """Makes `read` continue an ended log, and marks a possible change of status."""

        def notify() -> None:
            self._may_continue.set()
            marks.add(CHANGED)

        await watch_events(self._request, RESTART_EVENTS, notify, instance_id=self._instance_id)

    async def render(self, _: frozenset[Hashable]) -> PageEvent:
        """The lines since the last event, as JSON.

        `is_new`: the lines replace all earlier ones; `left_out`: the number of dropped lines;
        `why`: the reason why no lines may come.
        """
        status = (await self._instance()).status
        why = "The instance is stopped. Start it to see its log."
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
        instance = await self._instance()
        log = self._services.engine.follow_log(instance.sandbox_id, KEPT, instance.log_start())
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
