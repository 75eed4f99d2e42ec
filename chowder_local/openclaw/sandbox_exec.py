"""Programs inside sandboxes: what runs them, and how one is asked a question."""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import GatewayUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from chowder_local.core.domain import SandboxId

MAX_ANSWER_BYTES = 16 * 1024 * 1024

_INTERPRETERS = {
    ".mjs": ("node", "--input-type=module", "--eval"),
    ".py": ("/usr/bin/python3", "-I", "-S", "-c"),
}


class Process(Protocol):
    """A program that runs in a sandbox as the agent's user; what it says is not to be trusted."""

    async def write(self, chunk: bytes) -> None:
        """Puts bytes into its standard input; waits while it does not read them."""

    async def read(self) -> bytes:
        """The next bytes of its standard output; empty when it has ended."""

    @property
    def complaint(self) -> str:
        """The end of what it wrote to its standard error so far."""


class Processes(Protocol):
    """Runs programs inside running sandboxes."""

    def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AbstractAsyncContextManager[Process]:
        """Runs a program; leaving the block closes its input and hears it no more.

        The program must read from its standard input before it writes: what it says before is
        lost. Secrets go there, too, because a command is there for all processes to see.
        Raises EngineUnavailable, SandboxMissing, SandboxPaused.
        """


class Unpacking(Processes, Protocol):
    """Puts archives into running sandboxes, too."""

    async def unpack(self, sandbox_id: SandboxId, folder: str, archive: Iterable[bytes]) -> None:
        """Unpacks a tar of the agent's files in a folder; the archive is read in a thread.

        It must be known to be fit: this is done with more rights than the agent's.
        Raises EngineUnavailable, SandboxMissing, and what reading the archive raises.
        """


def command(name: str) -> tuple[str, ...]:
    """How one of our own programs is run, which is sent along: a sandbox has nothing of ours."""
    program = resources.files("chowder_local.openclaw.programs") / name
    return (*_INTERPRETERS[PurePath(name).suffix], program.read_text("utf-8"))


class Program:
    """One of our own small programs, which answers a line of JSON with a line of JSON."""

    def __init__(self, processes: Processes, name: str) -> None:
        self._processes = processes
        self._command = command(name)

    async def ask(
        self, sandbox_id: SandboxId, question: Mapping[str, Any], *, timeout_s: float, overdue: str
    ) -> dict[str, Any]:
        """Its answer.

        Raises GatewayUnavailable for an answer that is none, or is `overdue`, and
        EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._processes.process(sandbox_id, self._command) as process,
            ):
                await process.write(json_line(question))
                return _answer(await _all(process), process)
        except TimeoutError:
            raise GatewayUnavailable(overdue) from None


def json_line(question: Mapping[str, Any]) -> bytes:
    return json.dumps(question).encode() + b"\n"


def error_message(answer: Mapping[str, Any]) -> str:
    """Why a program, or a gateway, did not do it; empty if it does not say."""
    return untrusted_json.text_of(untrusted_json.object_at(answer, "error").get("message"))


def last_complaint(process: Process, otherwise: str = "nothing") -> str:
    return (process.complaint.splitlines() or [otherwise])[-1]


async def _all(process: Process) -> bytes:
    output = bytearray()
    while chunk := await process.read():
        output += chunk
        if len(output) > MAX_ANSWER_BYTES:
            raise GatewayUnavailable("the sandbox answered more than can be read")
    return bytes(output)


def _answer(output: bytes, process: Process) -> dict[str, Any]:
    try:
        return untrusted_json.read_whole_object(output)
    except ValueError:
        reason = last_complaint(process)
        raise GatewayUnavailable(f"the call into the sandbox ended with: {reason}") from None
