"""Bringing a running agent to another one's state, without a start."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from chowder_local.core import untrusted_json
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.openclaw.sandbox_exec import command, last_complaint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Process, Unpacking

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024
ANSWER_TIMEOUT_S = 120.0
"""To put in place what was unpacked takes a fraction of a second for each 10 MB."""


@dataclass(frozen=True)
class _Program:
    """Our program in a sandbox, which waits for what it is to do; leaving the stack ends it."""

    process: Process
    stack: AsyncExitStack


@dataclass(frozen=True)
class StateTransfer:
    """An archive on its way into a sandbox; it is unpacked, looked at, and put in place.

    What it does raises EngineUnavailable, SandboxMissing, and GatewayUnavailable if it takes a
    start, or went wrong: then the sandbox is to be made anew.
    """

    engine: Unpacking
    sandbox_id: SandboxId
    process: Process
    folder: str

    async def unpack(self, archive: Iterable[bytes]) -> None:
        """Puts all of it on the sandbox's disk, and nothing in place yet."""
        await self.engine.unpack(self.sandbox_id, self.folder, archive)

    async def check(self) -> None:
        """Raises GatewayUnavailable if it is known by now that it takes a start.

        The gateway need not run for that: it may still start.
        """
        _ensure_done(await _ask(self.process, "check"))

    async def apply(self) -> None:
        """Brings the agent, whose gateway runs and has its databases, to the archive's state."""
        _ensure_done(await _ask(self.process, "apply"))


class StateTransfers:
    """Puts archives of homes into sandboxes, where a program of ours puts them in place.

    Leave its block: programs that wait end with it.
    """

    def __init__(self, engine: Unpacking, home: str) -> None:
        self._engine = engine
        self._command = (*command("transfer_state.py"), home)
        self._waiting: dict[SandboxId, _Program] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for sandbox_id in list(self._waiting):
            await self.forget(sandbox_id)

    async def prepare(self, sandbox_id: SandboxId) -> None:
        """Starts the program, which then waits in the sandbox, frozen or not, until `open`.

        Raises EngineUnavailable, SandboxMissing, SandboxPaused, GatewayUnavailable.
        """
        await self.forget(sandbox_id)
        self._waiting[sandbox_id] = await self._started(sandbox_id)

    async def forget(self, sandbox_id: SandboxId) -> None:
        if (program := self._waiting.pop(sandbox_id, None)) is not None:
            await program.stack.aclose()

    @asynccontextmanager
    async def open(self, sandbox_id: SandboxId) -> AsyncIterator[StateTransfer]:
        """Has the program ready in a sandbox that runs; it ends with the block.

        Raises EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        async with AsyncExitStack() as stack:
            process, folder = await self._staged(sandbox_id, stack)
            yield StateTransfer(self._engine, sandbox_id, process, folder)

    async def _started(self, sandbox_id: SandboxId) -> _Program:
        async with AsyncExitStack() as stack:
            running = self._engine.process(sandbox_id, self._command)
            process = await stack.enter_async_context(running)
            await _ask(process, "ready")
            return _Program(process, stack.pop_all())

    async def _staged(self, sandbox_id: SandboxId, stack: AsyncExitStack) -> tuple[Process, str]:
        """The program, which ends with the stack, and the folder that it is to find all in."""
        if (program := self._waiting.pop(sandbox_id, None)) is not None:
            await stack.enter_async_context(program.stack)
            try:
                return program.process, await _folder(program.process)
            except ChowderError as lost:
                # Whatever has cut us off from it, another one can be started.
                log.info("sandbox %s: the program that waited is lost: %s", sandbox_id, lost)
                await program.stack.aclose()
        program = await self._started(sandbox_id)
        await stack.enter_async_context(program.stack)
        return program.process, await _folder(program.process)


def _ensure_done(answer: dict[str, object]) -> None:
    if answer.get("done") is not True:
        reason = str(answer.get("words") or answer.get("error") or "it does not say why")
        raise GatewayUnavailable(f"it takes a start to bring it to that state: {reason[:300]}")


async def _folder(process: Process) -> str:
    folder = (await _ask(process, "stage")).get("staged")
    if not isinstance(folder, str):
        raise GatewayUnavailable("the program that unpacks names no folder")
    return folder


async def _ask(process: Process, what: str) -> dict[str, object]:
    await process.write(f"{what}\n".encode())
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await _answer(process)
    except TimeoutError:
        raise GatewayUnavailable("the program that unpacks has not answered in time") from None


async def _answer(process: Process) -> dict[str, object]:
    output = bytearray()
    while b"\n" not in output and len(output) < MAX_ANSWER_BYTES:
        chunk = await process.read()
        if not chunk:
            break
        output += chunk
    try:
        return untrusted_json.read_object(bytes(output))
    except ValueError:
        reason = last_complaint(process)
        raise GatewayUnavailable(f"the program that unpacks ended with: {reason}") from None
