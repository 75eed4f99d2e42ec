"""Bringing a running agent to another one's state, without a start."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from chowder_local.errors.agents import GatewayUnavailable
from chowder_local.openclaw import untrusted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from chowder_local.domain import SandboxId
    from chowder_local.openclaw.inside import Process, Processes

CHUNK_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 64 * 1024
ANSWER_TIMEOUT_S = 120.0
"""After all was sent: to unpack and install it takes a fraction of a second for each 10 MB."""


class Pouring:
    """Sends archives of homes into sandboxes, where a program of ours puts them in place."""

    def __init__(self, processes: Processes, home: str) -> None:
        self._processes = processes
        self._home = home
        program = resources.files("chowder_local.openclaw.programs") / "pour.py"
        self._command = ("/usr/bin/python3", "-I", "-S", "-c", program.read_text("utf-8"))

    @asynccontextmanager
    async def into(
        self, sandbox_id: SandboxId
    ) -> AsyncIterator[Callable[[Path], Coroutine[Any, Any, None]]]:
        """Starts the program; what is given takes an archive, and is to be called once.

        The agent is in the archive's state when that returns. It raises GatewayUnavailable if it
        takes a start, or went wrong: then the sandbox is to be made anew.
        Raises EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        async with self._processes.process(sandbox_id, self._command) as process:
            yield partial(self._pour, process)

    async def _pour(self, process: Process, archive: Path) -> None:
        size = (await asyncio.to_thread(archive.stat)).st_size
        await process.write(json.dumps({"home": self._home, "size": size}).encode() + b"\n")
        await _send(process, archive)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await _answer(process)
        except TimeoutError:
            raise GatewayUnavailable("the archive was not unpacked in time") from None
        if answer.get("poured") is not True:
            words = str(answer.get("words") or answer.get("error") or "it does not say why")
            raise GatewayUnavailable(f"it takes a start to bring it to that state: {words[:300]}")


async def _send(process: Process, archive: Path) -> None:
    file = await asyncio.to_thread(archive.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            await process.write(chunk)
    finally:
        await asyncio.to_thread(file.close)


async def _answer(process: Process) -> dict[str, object]:
    said = bytearray()
    while b"\n" not in said and len(said) < MAX_ANSWER_BYTES:
        chunk = await process.read()
        if not chunk:
            break
        said += chunk
    try:
        return untrusted.read_object(bytes(said))
    except ValueError:
        words = process.complaint.splitlines()[-1:] or ["nothing"]
        raise GatewayUnavailable(f"the program that unpacks ended with: {words[0]}") from None
