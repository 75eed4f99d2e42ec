"""Applies the state of an archive to a running agent without a start."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from chowder_local.core import untrusted_json
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.openclaw.sandbox_exec import command, last_stderr_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Process, Unpacker

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024
ANSWER_TIMEOUT_S = 120.0
"""Applying the state takes a fraction of a second per 10 MB."""


@dataclass(frozen=True)
class _Program:
    """The running state transfer program; closing the stack ends it."""

    process: Process
    stack: AsyncExitStack


@dataclass(frozen=True)
class StateTransfer:
    """The transfer of an archive into a sandbox: `unpack`, `check`, `apply` or `clear`, `sync`.

    The methods raise EngineUnavailable, SandboxMissing, and GatewayUnavailable if the state needs a
    start of the gateway or the transfer fails; the sandbox must be replaced then.
    """

    engine: Unpacker
    sandbox_id: SandboxId
    process: Process
    folder: str

    async def unpack(self, archive: Iterable[bytes]) -> None:
        """Unpacks the archive into a temporary folder; the agent does not change."""
        await self.engine.unpack(self.sandbox_id, self.folder, archive)

    async def check(self) -> None:
        """Raises GatewayUnavailable if the state needs a start; the gateway may be booting."""
        _ensure_done(await _ask(self.process, "check"))

    async def check_own(self) -> None:
        """Raises GatewayUnavailable if `clear` could not remove what the gateway started with."""
        _ensure_done(await _ask(self.process, "check own"))

    async def sync(self) -> None:
        """Waits until the applied state survives a power cut."""
        _ensure_done(await _ask(self.process, "sync"))

    async def clear(self) -> None:
        """Makes the state that of the archive, which is a new agent's, and leaves nothing else."""
        _ensure_done(await _ask(self.process, "clear"))

    async def apply(self) -> None:
        """Applies the state to the agent, whose gateway runs and has created its databases."""
        _ensure_done(await _ask(self.process, "apply"))


class StateTransfers:
    """Transfers archives of homes into sandboxes with the program `transfer_state.py`.

    A context manager: leaving the block ends the waiting programs.
    """

    def __init__(self, engine: Unpacker, home: str, *, is_alone: bool = False) -> None:
        """`is_alone`: all that the home's user has on its machine is the agent's.

        Then `clear` removes that, too.
        """
        self._engine = engine
        self._command = (*command("transfer_state.py"), home, *(["alone"] if is_alone else []))
        self._waiting: dict[SandboxId, _Program] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for sandbox_id in list(self._waiting):
            await self.forget(sandbox_id)

    async def prepare(self, sandbox_id: SandboxId) -> None:
        """Starts the program, which waits in the sandbox, also while it is frozen, until `open`.

        Raises EngineUnavailable, SandboxMissing, SandboxPaused, GatewayUnavailable.
        """
        await self.forget(sandbox_id)
        self._waiting[sandbox_id] = await self._start(sandbox_id)

    async def forget(self, sandbox_id: SandboxId) -> None:
        if (program := self._waiting.pop(sandbox_id, None)) is not None:
            await program.stack.aclose()

    @asynccontextmanager
    async def open(self, sandbox_id: SandboxId) -> AsyncIterator[StateTransfer]:
        """Yields a transfer into a running sandbox; the program ends with the block.

        Raises EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        async with AsyncExitStack() as stack:
            process, folder = await self._stage(sandbox_id, stack)
            yield StateTransfer(self._engine, sandbox_id, process, folder)

    async def _start(self, sandbox_id: SandboxId) -> _Program:
        async with AsyncExitStack() as stack:
            running = self._engine.process(sandbox_id, self._command)
            process = await stack.enter_async_context(running)
            await _ask(process, "ready")
            return _Program(process, stack.pop_all())

    async def _stage(self, sandbox_id: SandboxId, stack: AsyncExitStack) -> tuple[Process, str]:
        """The program, which ends with the stack, and the folder for the archive."""
        if (program := self._waiting.pop(sandbox_id, None)) is not None:
            await stack.enter_async_context(program.stack)
            try:
                return program.process, await _folder(program.process)
            except ChowderError as lost:
                # The connection to the waiting program is lost, so start another one.
                log.info("sandbox %s: lost the waiting state transfer: %s", sandbox_id, lost)
                await program.stack.aclose()
        program = await self._start(sandbox_id)
        await stack.enter_async_context(program.stack)
        return program.process, await _folder(program.process)


def _ensure_done(answer: dict[str, object]) -> None:
    if answer.get("done") is not True:
        reason = str(answer.get("reason") or answer.get("error") or "no reason given")
        raise GatewayUnavailable(f"the state transfer needs a start: {reason[:300]}")


async def _folder(process: Process) -> str:
    folder = (await _ask(process, "stage")).get("staged")
    if not isinstance(folder, str):
        raise GatewayUnavailable("the state transfer program names no folder")
    return folder


async def _ask(process: Process, request: str) -> dict[str, object]:
    await process.write(f"{request}\n".encode())
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await _answer(process)
    except TimeoutError:
        raise GatewayUnavailable("the state transfer program has not answered in time") from None


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
        reason = last_stderr_line(process)
        raise GatewayUnavailable(f"the state transfer program ended with: {reason}") from None
