"""Forwards between the server, the gateways of sandboxes on nodes, and the relay."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import KeyedLocks
from chowder_local.engine.swarm import tunnel, worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import SandboxId
    from chowder_local.engine.swarm.tunnel import Listeners, Streams

LOOPBACK = "127.0.0.1"


@dataclass(eq=False, repr=False)
class Gateways:
    """An address of this machine's loopback for the gateway of each sandbox, like `ssh -L`.

    It is the same after a restart of the server, as the address of a container's port is.
    `is_linked` tells whether the worker at an address is linked: connections to others end at once.
    """

    listeners: Listeners
    secret: str
    is_linked: Callable[[str], bool]

    def __post_init__(self) -> None:
        self._places: dict[SandboxId, tuple[str, str]] = {}
        self._locks = KeyedLocks()

    async def local_url(self, sandbox_id: SandboxId, worker_address: str, url: str) -> str:
        """The URL at which this machine reaches the gateway that its node reaches at `url`.

        Raises EngineUnavailable if the server cannot listen there.
        """
        host, port = own_address(sandbox_id)
        async with self._locks.holding(sandbox_id):
            if sandbox_id not in self._places:
                try:
                    await self.listeners.listen(host, port, partial(self._handle, sandbox_id))
                except OSError as failure:
                    raise EngineUnavailable(
                        f"The server cannot listen at {host}:{port} for the gateway of sandbox "
                        f"{sandbox_id}: {failure.strerror}. End what listens there."
                    ) from failure
            self._places[sandbox_id] = worker_address, urlsplit(url).hostname or ""
        return f"http://{host}:{port}"

    def forget(self, sandbox_id: SandboxId) -> None:
        """Frees the address of a sandbox that is gone."""
        if self._places.pop(sandbox_id, None) is not None:
            self.listeners.end(*own_address(sandbox_id))

    async def _handle(self, sandbox_id: SandboxId, streams: Streams) -> None:
        address, sandbox = self._places.get(sandbox_id, ("", ""))
        if not self.is_linked(address):
            return
        self.listeners.assign_connection(address)
        target = f"sandbox {sandbox}"
        await tunnel.forward(
            streams, partial(tunnel.dial, address, worker.PORT, self.secret, target)
        )


@dataclass(eq=False, repr=False)
class RelayIngress:
    """Where workers bring the model calls of their sandboxes."""

    listeners: Listeners
    secret: str

    def __post_init__(self) -> None:
        self._relay_port = 0

    async def open(self, address: str, relay_port: int) -> int:
        """Takes calls for the relay, which listens on the loopback; returns the door's port."""
        self._relay_port = relay_port
        return await self.listeners.listen(address, 0, self._handle, tunnel.server_tls(self.secret))

    async def _handle(self, streams: Streams) -> None:
        reader, writer = streams
        match await tunnel.greet(reader):
            case ["relay", sandbox]:
                await self._join(streams, sandbox)
            case _:
                tunnel.refuse(writer, "the target is unknown")

    async def _join(self, streams: Streams, sandbox: str) -> None:
        _, writer = streams
        node, *_ = writer.get_extra_info("peername")
        self.listeners.assign_connection(node)
        # The relay limits what each address may send, so each sandbox has one of its own.
        source, _ = own_address(f"{node} {sandbox}")
        try:
            other = await asyncio.open_connection(
                LOOPBACK, self._relay_port, local_addr=(source, 0)
            )
        except OSError as failure:
            raise EngineUnavailable(f"The relay does not answer: {failure}.") from failure
        tunnel.accept(writer)
        await tunnel.splice(streams, other)


def own_address(name: str) -> tuple[str, int]:
    """An address and a port of the loopback, as good as certainly nobody else's (pure)."""
    digest = hashlib.sha256(name.encode()).digest()
    port = 20_000 + int.from_bytes(digest[3:6]) % 12_000
    return f"127.{1 + digest[0] % 254}.{digest[1]}.{1 + digest[2] % 254}", port
