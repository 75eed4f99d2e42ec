"""Stand-ins for the node programs in sandboxes, which answer as a test says."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from chowder_local.core.domain import SandboxId

REACH = "reach"


class ScriptedProgram:
    """A program that reads one request and writes one response."""

    stderr_tail = ""

    def __init__(self, programs: ScriptedPrograms) -> None:
        self._programs = programs
        self._output = b""

    async def write(self, chunk: bytes) -> None:
        self._output = json.dumps(self._programs.answer(json.loads(chunk))).encode() + b"\n"

    async def read(self) -> bytes:
        output, self._output = self._output, b""
        return output


@dataclass
class ScriptedPrograms:
    """Implements `Processes` for calls to the gateway and for checks of what can be reached."""

    answers: dict[str, Any] = field(default_factory=dict)
    """Responses by method, operation or REACH; of a list, one for each call, then the last."""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failing: Exception | None = None
    check: Callable[[SandboxId], object] = lambda _: None
    """Raises if no program can run for a sandbox."""

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, _: Sequence[str]
    ) -> AsyncIterator[ScriptedProgram]:
        if self.failing is not None:
            raise self.failing
        self.check(sandbox_id)
        yield ScriptedProgram(self)

    def called(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all calls of a method."""
        return [params for each, params in self.calls if each == method]

    def answer(self, request: dict[str, Any]) -> Any:
        """Records a request and returns the response to it."""
        method = request.get("method") or request.get("op", REACH)
        self.calls.append((method, request.get("params", request)))
        if method == "both":
            # One program does the work of two operations.
            responses = [self.answer({**request, "op": each}) for each in ("list", "read")]
            failed = [each for each in responses if not each["ok"]]
            return failed[0] if failed else _joined(responses)
        answers = (IDLE | self.answers)[method]
        if not isinstance(answers, list):
            return answers
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _joined(responses: list[Any]) -> Any:
    return done(**{name: value for each in responses for name, value in each["payload"].items()})


def done(**payload: Any) -> dict[str, Any]:
    """The response of a successful call."""
    return {"ok": True, "payload": payload}


def undone(message: str) -> dict[str, Any]:
    """The response of a failed call."""
    error = {"code": "UNAVAILABLE", "message": message}
    return {"ok": False, "payload": {"ok": False, "error": message}, "error": error}


IDLE = {
    "gateway.restart.preflight": done(blockers=[]),
    "sessions.abort": done(),
    "sessions.compact": done(compacted=True),
    "sessions.delete": done(deleted=True),
    "sessions.reset": done(),
}
"""How an idle agent answers, unless a test says otherwise."""
