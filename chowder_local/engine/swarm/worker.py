"""A node's worker: the way from the server to its engine and sandboxes, and from them to the relay.

It takes orders only from a server with the secret of the stack, on the network that the two share.
Sandboxes cannot reach that network. A worker that hears nothing from the server freezes what runs:
the server may by then have brought the agents back on another node.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil
import uvloop

from chowder_local.core.domain import GATEWAY_PORT
from chowder_local.core.tasks import logging_errors, owned_tasks
from chowder_local.engine import labels
from chowder_local.engine.connection import EngineAddress, open_client
from chowder_local.engine.containers import pause
from chowder_local.engine.self_container import address_on
from chowder_local.engine.swarm import tunnel
from chowder_local.engine.swarm.image_copies import ImageSpool
from chowder_local.engine.swarm.tunnel import Listeners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.engine.swarm.tunnel import Streams

log = logging.getLogger(__name__)

PORT = 2471
SILENCE_S = 20.0
"""How long the server may say nothing."""
NOTICE_S = 6.0
"""How long the server may take to notice that a node is drained."""
LEAVE_INTERVAL_S = 0.5
FREEZE_RETRY_S = 1.0


class Order(StrEnum):
    """What the server says to a worker at each beat."""

    SERVE = "serve"
    STAY = "stay"
    """The node is drained, and still has agents."""
    LEAVE = "leave"
    """The node is drained, and its agents are elsewhere."""


@dataclass(frozen=True)
class ServerHello:
    """What the server sends at the beginning of its watch over a node.

    `relay_binds` are the worker's addresses on the sandboxes' networks; at `door_port` the server
    takes model calls.
    """

    store_id: str
    relay_binds: tuple[str, ...]
    relay_port: int
    door_port: int


class Worker:
    """Serves one server. `engine` is the node's engine; images on their way are in `folder`."""

    def __init__(
        self, engine: EngineAddress, secret: str, listeners: Listeners, folder: Path
    ) -> None:
        self._engine = engine
        self._images = ImageSpool(engine, folder)
        self._secret = secret
        self._listeners = listeners
        self._server = ""
        self._watched = ServerHello("", (), 0, 0)
        self._relay_ports: set[tuple[str, int]] = set()
        self._beat = asyncio.Event()
        self._order = Order.SERVE
        self._heard_s = 0.0
        self._watches = 0
        self._has_left = False

    async def handle(self, streams: Streams) -> None:
        """Serves one connection of the server."""
        reader, writer = streams
        match await tunnel.greet(reader):
            case ["engine"]:
                await self._join(streams, partial(asyncio.open_unix_connection, self._socket))
            case ["sandbox", address] if _is_of_sandbox(address):
                await self._join(streams, partial(asyncio.open_connection, address, GATEWAY_PORT))
            case ["image", image_id] if image_id.isalnum():
                tunnel.accept(writer)
                await self._images.receive(streams, image_id)
            case ["watch", sent]:
                self._server = writer.get_extra_info("peername")[0]
                tunnel.accept(writer)
                await self._watch(streams, ServerHello(**_read(sent)))
            case _:
                tunnel.refuse(writer, "the target is unknown")

    async def freeze_in_silence(self) -> None:
        """Freezes the server's sandboxes whenever it is silent for too long.

        Tries until they are frozen, or the server speaks again. Returns then if the server has not
        left: the node, or that of the server, is cut off.
        """
        while True:
            await self._beat.wait()
            while self._beat.is_set():
                self._beat.clear()
                try:
                    async with asyncio.timeout(SILENCE_S):
                        await self._beat.wait()
                except TimeoutError:
                    break
            log.warning("the server has been silent for %.0f s; its sandboxes freeze", SILENCE_S)
            is_frozen = False
            while not (is_frozen or self._beat.is_set()):
                with logging_errors("freezing sandboxes"):
                    await asyncio.to_thread(self._freeze)
                    is_frozen = True
                await asyncio.sleep(FREEZE_RETRY_S)
            if not (self._beat.is_set() or self._has_left):
                return

    async def leave(self) -> None:
        """Returns once this worker may end: on a drained node, when its agents are elsewhere.

        Swarm ends a worker together with the sandboxes of its node.
        """
        began_s = time.monotonic()
        while self._order is not Order.LEAVE:
            now_s = time.monotonic()
            is_needed = self._order is Order.STAY and now_s - self._heard_s < SILENCE_S
            # Without a server nobody says that the node is drained.
            if not is_needed and (not self._watches or now_s - began_s > NOTICE_S):
                return
            await asyncio.sleep(LEAVE_INTERVAL_S)

    @property
    def _socket(self) -> str:
        return self._engine.url.partition("://")[2]

    async def _join(self, streams: Streams, dialled: Any) -> None:
        try:
            other = await dialled()
        except OSError as failure:
            tunnel.refuse(streams[1], f"{failure.strerror or failure}")
            return
        tunnel.accept(streams[1])
        await tunnel.splice(streams, other)

    async def _watch(self, streams: Streams, watched: ServerHello) -> None:
        """Answers each line of the server with the node's free memory, until it leaves."""
        reader, writer = streams
        self._watched = watched
        await self._serve_relay(watched)
        self._watches += 1
        self._has_left = False
        # One that comes is no longer silent, before its first line, too.
        self._beat.set()
        try:
            # A connection that is cut off raises nothing: it times out.
            with suppress(ConnectionError):
                while line := await reader.readline():
                    self._order = Order(line.decode().strip())
                    self._heard_s = time.monotonic()
                    self._beat.set()
                    writer.write(b"%d\n" % psutil.virtual_memory().available)
                    await writer.drain()
            # Another watch may have begun before the end of this one came.
            self._has_left = self._watches == 1
        finally:
            self._watches -= 1

    async def _serve_relay(self, watched: ServerHello) -> None:
        wanted = {(address, watched.relay_port) for address in watched.relay_binds}
        for address, port in self._relay_ports - wanted:
            self._listeners.end(address, port)
        for address, port in wanted - self._relay_ports:
            await self._listeners.listen(address, port, self._relay)
        self._relay_ports = wanted

    async def _relay(self, streams: Streams) -> None:
        """Carries a sandbox's model call to the server; `streams` are the sandbox's."""
        watched, server = self._watched, self._server
        sandbox = streams[1].get_extra_info("peername")[0]
        target = f"relay {sandbox}"
        await tunnel.forward(
            streams, partial(tunnel.dial, server, watched.door_port, self._secret, target)
        )

    def _freeze(self) -> None:
        filters = labels.store_filter(self._watched.store_id) | {"status": "running"}
        with closing(open_client(self._engine)) as client:
            for container in client.containers.list(filters=filters, ignore_removed=True):
                if labels.sandbox_of(container.labels) is not None:
                    pause(container)


def run(engine: EngineAddress, network: str, secret: str) -> None:
    """Serves on `network`, until SIGTERM, or until it is cut off and its sandboxes are frozen.

    Swarm then starts another worker, which Docker's network announces at once. After a cut it takes
    most of a minute to announce again those that were there. Raises EngineUnavailable, and an
    ExceptionGroup if the guard that freezes sandboxes has failed.
    """
    uvloop.run(_run(engine, network, secret))


async def _run(engine: EngineAddress, network: str, secret: str) -> None:
    address = await asyncio.to_thread(_own_address, engine, network)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        listeners = await stack.enter_async_context(Listeners.opened())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chowder-images-")))
        worker = Worker(engine, secret, listeners, folder)
        await listeners.listen(address, PORT, worker.handle, tunnel.server_tls(secret))
        log.info("worker of this node, at %s:%d", address, PORT)
        tasks = await stack.enter_async_context(owned_tasks())
        frozen = tasks.create_task(worker.freeze_in_silence())
        stopping = tasks.create_task(stopped.wait())
        await asyncio.wait([frozen, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not frozen.done():
            await worker.leave()


def _own_address(engine: EngineAddress, network: str) -> str:
    with closing(open_client(engine)) as client:
        return address_on(client, network)


def _is_of_sandbox(address: str) -> bool:
    """Whether it is on a network of this container, as sandboxes and little else are."""
    try:
        wanted = IPv4Address(address)
    except AddressValueError:
        return False
    return any(wanted in each for each in _sandbox_networks())


def _sandbox_networks() -> Iterator[IPv4Network]:
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family.name == "AF_INET" and each.netmask:
                yield IPv4Network(f"{each.address}/{each.netmask}", strict=False)


def _read(sent: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(sent)
    return content | {"relay_binds": tuple(content["relay_binds"])}
