"""A node's worker, and the server's ways through it, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import owned_tasks
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.swarm import tunnel, worker
from chowder_local.engine.swarm.forwards import Gateways, RelayIngress, own_address
from chowder_local.engine.swarm.tunnel import Listeners
from chowder_local.engine.swarm.worker import ServerHello, Worker
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chowder_local.engine.swarm.tunnel import Streams

pytestmark = pytest.mark.anyio

SECRET = "s" * 64
HOST = "127.0.0.1"
NODE = "127.0.0.77"
SANDBOX = "127.0.0.78"


async def named(name: str, streams: Streams) -> None:
    """Answers each line with a name in front, as whoever is at the end of a way."""
    reader, writer = streams
    while line := await reader.readline():
        writer.write(name.encode() + b": " + line)


async def answer_to(streams: Streams, line: str) -> str:
    reader, writer = streams
    writer.write(f"{line}\n".encode())
    answer = (await reader.readline()).decode().strip()
    writer.close()
    return answer


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    async with Listeners.opened() as listeners:
        yield listeners


@pytest.fixture
async def node(
    listeners: Listeners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, int]:
    """The address of a worker, with an engine and a sandbox that answer lines."""
    path = tmp_path / "engine.sock"
    await listeners.listen_at_path(path, partial(named, "engine"))
    gateway_port = await listeners.listen(SANDBOX, 0, partial(named, "sandbox"))
    monkeypatch.setattr(worker, "GATEWAY_PORT", gateway_port)
    served = Worker(EngineAddress(f"unix://{path}", "the test"), SECRET, listeners, tmp_path)
    port = await listeners.listen(NODE, 0, served.handle, tunnel.server_tls(SECRET))
    monkeypatch.setattr(worker, "PORT", port)
    return NODE, port


async def test_the_server_reaches_the_engine_of_the_node(node: tuple[str, int]) -> None:
    assert await answer_to(await tunnel.dial(*node, SECRET, "engine"), "ping") == "engine: ping"


async def test_the_server_reaches_a_gateway_at_an_address_of_its_own(
    listeners: Listeners, node: tuple[str, int]
) -> None:
    sandbox_id, linked = SandboxId("chowder-1"), {node[0]}
    gateways = Gateways(listeners, SECRET, linked.__contains__)
    url = await gateways.local_url(sandbox_id, node[0], f"http://{SANDBOX}:1")
    host, port = own_address(sandbox_id)
    assert url == f"http://{host}:{port}" == await gateways.local_url(sandbox_id, *("", url))
    await gateways.local_url(sandbox_id, node[0], f"http://{SANDBOX}:1")
    assert await answer_to(await asyncio.open_connection(host, port), "hi") == "sandbox: hi"
    # While its node is lost, nobody waits for that.
    linked.clear()
    reader, writer = await asyncio.open_connection(host, port)
    assert await reader.read() == b""
    writer.close()
    gateways.forget(sandbox_id)
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(host, port)


async def test_an_address_that_is_taken_is_an_error_until_it_is_free(
    listeners: Listeners, node: tuple[str, int]
) -> None:
    sandbox_id, gateways = SandboxId("chowder-1"), Gateways(listeners, SECRET, {NODE}.__contains__)
    host, port = own_address(sandbox_id)
    taker = await asyncio.start_server(lambda *_: None, host, port)
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match=f"cannot listen at {host}:{port}"):
            await gateways.local_url(sandbox_id, node[0], f"http://{SANDBOX}:1")
    taker.close()
    # Callers of the same moment get an address that is listened at.
    await asyncio.gather(
        *(gateways.local_url(sandbox_id, node[0], f"http://{SANDBOX}:1") for _ in range(2))
    )
    assert await answer_to(await asyncio.open_connection(host, port), "hi") == "sandbox: hi"


@pytest.mark.parametrize("target", ["sandbox 250.1.2.3", "sandbox localhost", "shell", ""])
async def test_a_worker_leads_nowhere_else(node: tuple[str, int], target: str) -> None:
    with pytest.raises(EngineUnavailable, match="the target is unknown"):
        await tunnel.dial(*node, SECRET, target)


async def test_model_calls_go_from_a_sandbox_through_its_node_to_the_relay(
    listeners: Listeners, node: tuple[str, int]
) -> None:
    relay_port = await listeners.listen(HOST, 0, _names_its_caller)
    door_port = await RelayIngress(listeners, SECRET).open(HOST, relay_port)
    watched = ServerHello("store", ("127.0.0.79",), relay_port, door_port)
    watch = await tunnel.dial(*node, SECRET, f"watch {json.dumps(asdict(watched))}")
    reader, writer = watch
    writer.write(b"serve\n")
    assert int(await reader.readline()) > 0
    sources = [
        await answer_to(await asyncio.open_connection("127.0.0.79", relay_port), "?")
        for _ in range(2)
    ]
    # Each sandbox has one address at the relay, always the same.
    assert sources[0] == sources[1] == own_address(f"{HOST} {HOST}")[0]
    writer.close()


async def test_a_server_that_is_silent_for_too_long_finds_its_sandboxes_frozen(
    listeners: Listeners, node: tuple[str, int], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, tmp_path: Path,
) -> None:  # fmt: skip
    has_left = threading.Event()
    failures = [EngineUnavailable("The engine hangs.")]
    freezes: list[None] = []

    def freeze(_: Worker) -> None:
        if failures:
            raise failures.pop()
        has_left.wait()
        freezes.append(None)

    monkeypatch.setattr(worker, "SILENCE_S", 0.01)
    monkeypatch.setattr(worker, "FREEZE_RETRY_S", 0.01)
    monkeypatch.setattr(Worker, "_freeze", freeze)
    served = Worker(EngineAddress("unix:///nowhere", "the test"), SECRET, listeners, tmp_path)
    port = await listeners.listen(NODE, 0, served.handle, tunnel.server_tls(SECRET))
    freezing = asyncio.create_task(served.freeze_in_silence())
    watch = f"watch {json.dumps(asdict(ServerHello('store', (), 1, 2)))}"
    _, writer = await tunnel.dial(NODE, port, SECRET, watch)
    with caplog.at_level(logging.WARNING):
        writer.write(b"serve\n")
        writer.close()
        await eventually(lambda: served._has_left, "it has left")
        has_left.set()
        await eventually(lambda: freezes, "they are frozen")
    assert "the server has been silent" in caplog.text
    # A server that is cut off has not left: then the worker ends, too.
    _, writer = await tunnel.dial(NODE, port, SECRET, watch)
    writer.write(b"serve\n")
    await freezing
    assert len(freezes) == 2
    writer.close()


async def test_a_worker_that_is_cut_off_ends_once_its_sandboxes_are_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def freeze(_: Worker) -> None:
        pass

    monkeypatch.setattr(worker, "PORT", 0)
    monkeypatch.setattr(worker, "_own_address", lambda *_: NODE)
    monkeypatch.setattr(Worker, "freeze_in_silence", freeze)
    await worker._run(EngineAddress("unix:///nowhere", "the test"), "network", SECRET)


async def test_a_worker_ends_with_its_guard_against_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(_: Worker) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(worker, "PORT", 0)
    monkeypatch.setattr(worker, "_own_address", lambda *_: NODE)
    monkeypatch.setattr(Worker, "freeze_in_silence", broken)
    with pytest.raises(ExceptionGroup) as ended:
        await worker._run(EngineAddress("unix:///nowhere", "the test"), "network", SECRET)
    assert ended.group_contains(RuntimeError, match="a defect")


async def test_on_a_drained_node_a_worker_stays_until_its_agents_have_left(
    listeners: Listeners, node: tuple[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker, "NOTICE_S", math.inf)
    monkeypatch.setattr(worker, "LEAVE_INTERVAL_S", 0.01)
    served = Worker(EngineAddress("unix:///nowhere", "the test"), SECRET, listeners, tmp_path)
    # No server is there that could need it.
    await served.leave()
    monkeypatch.setattr(worker, "NOTICE_S", 0.0)
    port = await listeners.listen(NODE, 0, served.handle, tunnel.server_tls(SECRET))
    sent = json.dumps(asdict(ServerHello("store", (), 1, 2)))
    reader, writer = await tunnel.dial(NODE, port, SECRET, f"watch {sent}")
    writer.write(b"stay\n")
    await reader.readline()
    async with owned_tasks() as tasks:
        leaving = tasks.create_task(served.leave())
        done, _ = await asyncio.wait([leaving], timeout=0.1)
        assert not done
        writer.write(b"leave\n")
        await leaving
    writer.close()


async def _names_its_caller(streams: Streams) -> None:
    reader, writer = streams
    await reader.readline()
    writer.write(writer.get_extra_info("peername")[0].encode() + b"\n")
