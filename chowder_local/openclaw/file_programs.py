"""File programs in sandboxes, which wait for the next call before they end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import logging_errors, owned_tasks
from chowder_local.openclaw.sandbox_exec import command, json_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Process, Processes

IDLE_S = 5.0
"""How long a program waits. It takes some MB from the agent."""
MAX_WAITING = 64
"""Of all sandboxes; each has a connection to the engine."""
READY_TIMEOUT_S = 2.0
"""A program that waits answers in milliseconds, unless its sandbox is paused or gone."""
READY_REQUEST = json_line({"op": "ready"})
READY_ANSWER = b'{"size": 0}\n'


@dataclass(eq=False, repr=False)
class Exchange:
    """One request to a file program, and its answer."""

    process: Process
    is_complete: bool = False
    """Whether the program has answered and sent nothing more, so that it can be used again."""


@dataclass(frozen=True)
class _Waiting:
    sandbox_id: SandboxId
    process: Process
    stack: AsyncExitStack
    until: float


class FilePrograms:
    """Starts file programs, and uses them again for calls that follow within IDLE_S.

    The start of a program takes a hundred times as long as a call. A program is untrusted like the
    agent whose user it runs as, so it serves its own sandbox only.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._command = command("files.py")
        # In the order in which their time ends.
        self._waiting: deque[_Waiting] = deque()
        self._has_waiting = asyncio.Event()
        self._is_open = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FilePrograms]:
        """Lets programs wait during the block, whose end ends them; outside of it none waits."""
        async with owned_tasks() as group:
            group.create_task(self._end_idle(), name="file programs")
            self._is_open = True
            try:
                yield self
            finally:
                self._is_open = False
                await self._end(list(self._waiting))

    @asynccontextmanager
    async def exchange(self, sandbox_id: SandboxId) -> AsyncIterator[Exchange]:
        """A program that has no other request; it ends unless the exchange is complete.

        Raises EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        async with AsyncExitStack() as stack:
            process = await self._reuse(sandbox_id, stack)
            if process is None:
                running = self._processes.process(sandbox_id, self._command)
                process = await stack.enter_async_context(running)
            exchange = Exchange(process)
            try:
                yield exchange
            finally:
                if exchange.is_complete and self._is_open and len(self._waiting) < MAX_WAITING:
                    until = time.monotonic() + IDLE_S
                    waiting = _Waiting(sandbox_id, process, stack.pop_all(), until)
                    self._waiting.append(waiting)
                    self._has_waiting.set()

    async def end_in(self, sandbox_id: SandboxId) -> None:
        """Ends those that wait in a sandbox, which may have parts of files in memory."""
        await self._end([each for each in self._waiting if each.sandbox_id == sandbox_id])

    async def _reuse(self, sandbox_id: SandboxId, stack: AsyncExitStack) -> Process | None:
        """A program that waits in the sandbox and ends with the stack, if one answers."""
        # The one that waits for the shortest time, so that those in excess end.
        waiting = next(
            (each for each in reversed(self._waiting) if each.sandbox_id == sandbox_id), None
        )
        if waiting is None:
            return None
        self._waiting.remove(waiting)
        async with AsyncExitStack() as ending:
            await ending.enter_async_context(waiting.stack)
            if await _is_ready(waiting.process):
                stack.push_async_exit(ending.pop_all())
                return waiting.process
        # Whatever ended it has ended the others, too.
        await self.end_in(sandbox_id)
        return None

    async def _end_idle(self) -> None:
        while True:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            while self._waiting:
                await asyncio.sleep(self._waiting[0].until - time.monotonic())
                now = time.monotonic()
                await self._end([each for each in self._waiting if each.until <= now])

    async def _end(self, programs: list[_Waiting]) -> None:
        for each in programs:
            self._waiting.remove(each)
        for each in programs:
            with logging_errors(f"sandbox {each.sandbox_id}: ending a file program"):
                await each.stack.aclose()


async def _is_ready(process: Process) -> bool:
    """Whether a program answers before anything else is sent to it."""
    output = b""
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await process.write(READY_REQUEST)
            while output != READY_ANSWER and READY_ANSWER.startswith(output):
                chunk = await process.read()
                if not chunk:
                    break
                output += chunk
    except (TimeoutError, EngineUnavailable):
        return False
    return output == READY_ANSWER
