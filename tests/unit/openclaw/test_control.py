"""Failures of calls from inside a sandbox; end-to-end tests cover successful ones."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.openclaw import sandbox_exec
from chowder_local.openclaw.sandbox_exec import Control
from tests.scripted.hostile import heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SANDBOX_ID = SandboxId("chowder-1")


class Program:
    """A program in a sandbox with a test's output."""

    def __init__(self, output: Sequence[bytes], stderr_tail: str = "", *, is_stuck: bool = False):
        self.commands: list[Sequence[str]] = []
        self.written = b""
        self.stderr_tail = stderr_tail
        self._output = list(output)
        self._is_stuck = is_stuck

    @asynccontextmanager
    async def process(self, _: SandboxId, command: Sequence[str]) -> AsyncIterator[Program]:
        self.commands.append(command)
        yield self

    async def write(self, chunk: bytes) -> None:
        self.written += chunk

    async def read(self) -> bytes:
        if self._is_stuck:
            await asyncio.Event().wait()
        return self._output.pop(0) if self._output else b""


async def call(program: Program, **options: Any) -> dict[str, Any]:
    return await Control(program, lambda sandbox_id: f"token of {sandbox_id}").call(
        SANDBOX_ID, "skills.status", {"agentId": "main"}, **options
    )


def answer(**members: Any) -> bytes:
    return json.dumps(members).encode() + b"\n"


async def test_the_answer_is_put_together_from_its_pieces() -> None:
    whole = answer(ok=True, payload={"skills": []})
    assert await call(Program([whole[:5], whole[5:]])) == {"skills": []}


async def test_the_token_goes_in_by_the_input_and_not_by_the_command() -> None:
    program = Program([answer(ok=True, payload={})])
    await call(program)
    assert json.loads(program.written) == {
        "token": "token of chowder-1",
        "port": 18789,
        "method": "skills.status",
        "params": {"agentId": "main"},
    }
    assert not any("token of" in part for part in program.commands[0])


async def test_a_payload_that_is_no_object_counts_as_empty() -> None:
    assert await call(Program([answer(ok=True, payload=["what"])])) == {}


async def test_a_refusal_has_the_gateways_message() -> None:
    refused = answer(ok=False, error={"code": "INVALID_REQUEST", "message": "no such skill"})
    with pytest.raises(RpcRefused, match="no such skill"):
        await call(Program([refused]))


@pytest.mark.parametrize("code", ["UNREACHABLE", "UNAVAILABLE"])
async def test_a_gateway_that_is_not_there_is_told_from_one_that_refuses(code: str) -> None:
    with pytest.raises(GatewayUnavailable, match="hung up"):
        await call(Program([answer(ok=False, error={"code": code, "message": "hung up"})]))


async def test_an_error_with_a_payload_is_a_refusal() -> None:
    error = {"code": "UNAVAILABLE", "message": "fetch failed"}
    failed = answer(ok=False, payload={"ok": False, "error": "fetch failed"}, error=error)
    with pytest.raises(RpcRefused, match="fetch failed"):
        await call(Program([failed]))


@pytest.mark.parametrize("output", [b"", b"not json\n", b"[1]\n"])
async def test_an_answer_that_cannot_be_read_is_the_gateways_failure(output: bytes) -> None:
    with pytest.raises(GatewayUnavailable):
        await call(Program([output] if output else [], "first line\nnode: not found"))


async def test_a_program_that_dies_is_quoted() -> None:
    with pytest.raises(GatewayUnavailable, match="node: not found"):
        await call(Program([], "first line\nnode: not found"))


async def test_a_call_that_exceeds_its_timeout_fails() -> None:
    with pytest.raises(GatewayUnavailable, match=r"skills\.status"):
        await call(Program([], is_stuck=True), timeout_s=0.01)


async def test_an_output_that_is_too_long_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox_exec, "MAX_ANSWER_BYTES", 10)
    with pytest.raises(GatewayUnavailable, match="more than"):
        await call(Program([b"x" * 8] * 100))


MIB = 1024 * 1024
BOMBS = {
    "arrays": b'{"ok":[%b]}' % b",".join([b"[]"] * 2 * MIB),
    "members": b'{"ok":[%b]}' % b",".join([b'{"":0}'] * 60_000),
    "half characters": b'{"ok":"%b"}' % (b"\\ud800" * MIB),
    "separators in a text": b'{"ok":"%b"}' % (b"\\\\," * 2 * MIB),
}


@pytest.mark.parametrize("output", BOMBS.values(), ids=BOMBS)
async def test_no_answer_of_a_program_holds_the_event_loop(output: bytes) -> None:
    async with heartbeat(repr(output[:20])):
        with suppress(GatewayUnavailable):
            await call(Program([output]))
