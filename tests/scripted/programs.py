"""Our node programs inside sandboxes, which answer as a test says."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from chowder_local.core.domain import SandboxId

REACH = "reach"


class ScriptedProgram:
    """A program that reads a question and has its answer."""

    complaint = ""

    def __init__(self, programs: ScriptedPrograms) -> None:
        self._programs = programs
        self._said = b""

    async def write(self, chunk: bytes) -> None:
        self._said = json.dumps(self._programs.answer(json.loads(chunk))).encode() + b"\n"

    async def read(self) -> bytes:
        said, self._said = self._said, b""
        return said


@dataclass
class ScriptedPrograms:
    """What `Processes` asks for: calls of the gateway, and the question who can be reached."""

    answers: dict[str, Any] = field(default_factory=dict)
    """By method or operation, or REACH: the answer, or one after the other, the last for good."""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failing: Exception | None = None

    @asynccontextmanager
    async def process(self, _: SandboxId, __: Sequence[str]) -> AsyncIterator[ScriptedProgram]:
        if self.failing is not None:
            raise self.failing
        yield ScriptedProgram(self)

    def called(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the calls of a method."""
        return [params for each, params in self.calls if each == method]

    def answer(self, question: dict[str, Any]) -> Any:
        """The answer to a question, which is noted."""
        method = question.get("method") or question.get("op", REACH)
        self.calls.append((method, question.get("params", question)))
        if method == "both":
            # One program tells what two do.
            told = [self.answer({**question, "op": each}) for each in ("list", "read")]
            failed = [each for each in told if not each["ok"]]
            return failed[0] if failed else _joined(told)
        answers = self.answers[method]
        if not isinstance(answers, list):
            return answers
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _joined(told: list[Any]) -> Any:
    return done(**{name: value for each in told for name, value in each["payload"].items()})


def done(**payload: Any) -> dict[str, Any]:
    """The good answer of a call."""
    return {"ok": True, "payload": payload}


def undone(message: str) -> dict[str, Any]:
    """The answer of a call that cannot do what it should."""
    error = {"code": "UNAVAILABLE", "message": message}
    return {"ok": False, "payload": {"ok": False, "error": message}, "error": error}
