"""Programs inside sandboxes, JSON lines with them, and calls to the gateway through them."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from importlib import resources
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

from chowder_local.core import untrusted_json
from chowder_local.core.domain import GATEWAY_PORT
from chowder_local.core.errors.agents import (
    AgentDiskFull,
    GatewaySuspended,
    GatewayUnavailable,
    RpcRefused,
)
from chowder_local.openclaw.refusals import call_when_resumed, is_suspended, names_full_disk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from chowder_local.core.domain import SandboxId

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Twice a page of `transcripts.mjs`, whose first message may be as long as one."""
MAX_VALUES = 200_000
"""The 10,000 sessions that `transcripts.mjs` lists at most have 130,000."""

_INTERPRETERS = {
    ".mjs": ("node", "--input-type=module", "--eval"),
    ".py": ("/usr/bin/python3", "-I", "-S", "-c"),
}


class Process(Protocol):
    """A program that runs in a sandbox as the agent's user; its output is untrusted."""

    async def write(self, chunk: bytes) -> None:
        """Writes to its standard input; waits while the program does not read."""

    async def read(self) -> bytes:
        """The next bytes of its standard output; empty once it has ended."""

    @property
    def stderr_tail(self) -> str:
        """The end of its standard error so far."""


class Processes(Protocol):
    """Runs programs inside running sandboxes.

    A program must not end before its answer was read, but when its input ends: two seconds after a
    program's end, an engine drops what it has not passed on, be it because it is busy or because
    the reader is slow.
    """

    def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AbstractAsyncContextManager[Process]:
        """Runs a program; leaving the block closes its input and stops reading its output.

        The program must read from its standard input before it writes, because earlier output is
        lost. Send secrets there, too: every process in the sandbox can read a command line.
        Raises EngineUnavailable, SandboxMissing, SandboxPaused.
        """


class Unpacker(Processes, Protocol):
    """Runs programs inside running sandboxes, and unpacks archives there."""

    async def unpack(self, sandbox_id: SandboxId, folder: str, archive: Iterable[bytes]) -> None:
        """Unpacks a tar archive of the agent's files; the archive is read in a thread.

        The archive must be sanitized, because it is unpacked with more rights than the agent's.
        Raises EngineUnavailable, SandboxMissing, and the errors of reading the archive.
        """


def command(name: str) -> tuple[str, ...]:
    """The command that runs one of our programs; it holds the program's text."""
    program = resources.files("chowder_local.openclaw.programs") / name
    return (*_INTERPRETERS[PurePath(name).suffix], program.read_text("utf-8"))


class Program:
    """One of our programs that reads one line of JSON and answers with one."""

    def __init__(self, processes: Processes, name: str) -> None:
        self._processes = processes
        self._command = command(name)

    async def ask(
        self,
        sandbox_id: SandboxId,
        request: Mapping[str, Any],
        *,
        timeout_s: float,
        timeout_message: str,
    ) -> dict[str, Any]:
        """Runs the program with a request and returns its answer.

        Raises GatewayUnavailable if the answer is not JSON, or with `timeout_message` if it does
        not come in time; EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._processes.process(sandbox_id, self._command) as process,
            ):
                await process.write(json_line(request))
                output = await _read_line(process)
                # In a thread, which lets others run between its steps.
                return await asyncio.to_thread(_parse, output, process.stderr_tail)
        except TimeoutError:
            raise GatewayUnavailable(timeout_message) from None


def json_line(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def error_message(answer: Mapping[str, Any]) -> str:
    """The message in the `error` of a program's answer; empty if there is none."""
    return untrusted_json.message_of(untrusted_json.object_at(answer, "error").get("message"))


def last_stderr_line(process: Process, default: str = "nothing") -> str:
    """The last line that the program has written to its standard error, shortened."""
    return _last_line(process.stderr_tail, default)


def _last_line(stderr_tail: str, default: str = "nothing") -> str:
    return untrusted_json.message_of((stderr_tail.splitlines() or [default])[-1])


async def _read_line(process: Process) -> bytes:
    """The output up to the end of its first line; less if the program ends before."""
    output = bytearray()
    while chunk := await process.read():
        output += chunk
        if b"\n" in chunk:
            break
        if len(output) > MAX_ANSWER_BYTES:
            raise GatewayUnavailable("the sandbox answered more than can be read")
    return bytes(output).partition(b"\n")[0]


def _parse(output: bytes, stderr_tail: str) -> dict[str, Any]:
    try:
        return untrusted_json.read_encodable_object(output, values_max=MAX_VALUES)
    except ValueError:
        reason = _last_line(stderr_tail)
        raise GatewayUnavailable(f"the call into the sandbox ended with: {reason}") from None


CALL_TIMEOUT_S = 30.0


class Control:
    """Calls gateways from inside their sandboxes; a call takes 0.1–0.3 s.

    OpenClaw's command line takes seconds, and a call from outside the sandbox needs a device that
    was paired by hand. `when_resumed` waits for the end of a suspension of a sandbox's gateway;
    code that holds the agent has none.
    """

    def __init__(
        self,
        processes: Processes,
        token_of: Callable[[SandboxId], str],
        when_resumed: Callable[[SandboxId, float], Awaitable[None]] | None = None,
    ) -> None:
        self._program = Program(processes, "call.mjs")
        self._token_of = token_of
        self._when_resumed = when_resumed

    async def call(
        self,
        sandbox_id: SandboxId,
        method: str,
        params: Mapping[str, Any],
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        """The call's payload.

        Raises RpcRefused with the gateway's message if it refuses the call, GatewayUnavailable if
        it does not answer in `timeout_s`, AgentDiskFull, EngineUnavailable, SandboxMissing,
        SandboxPaused, and what `when_resumed` raises.
        """
        when_resumed = None
        if self._when_resumed is not None:
            when_resumed = partial(self._when_resumed, sandbox_id)
        call = partial(self._call, sandbox_id, method, params, timeout_s)
        return await call_when_resumed(call, when_resumed)

    async def _call(
        self, sandbox_id: SandboxId, method: str, params: Mapping[str, Any], timeout_s: float
    ) -> dict[str, Any]:
        request = {
            "token": self._token_of(sandbox_id),
            "port": GATEWAY_PORT,
            "method": method,
            "params": params,
        }
        answer = await self._program.ask(
            sandbox_id,
            request,
            timeout_s=timeout_s,
            timeout_message=f"no answer to {method} within {timeout_s:.0f} s",
        )
        if answer.get("ok"):
            return untrusted_json.object_of(answer.get("payload"))
        message = error_message(answer) or "the call failed"
        code = untrusted_json.object_at(answer, "error").get("code")
        # An error with a payload is the method's own answer, not an unavailable gateway.
        if code in ("UNREACHABLE", "UNAVAILABLE") and not answer.get("payload"):
            if names_full_disk(message):
                raise AgentDiskFull
            raise (GatewaySuspended if is_suspended(message) else GatewayUnavailable)(message)
        raise RpcRefused(message)
