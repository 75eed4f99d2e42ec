"""Images that the server sends to a node's worker in pieces, until the node's engine has them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import DockerException

from chowder_local.engine.connection import open_client
from chowder_local.engine.swarm import tunnel

if TYPE_CHECKING:
    from pathlib import Path

    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.swarm.tunnel import Streams

log = logging.getLogger(__name__)

LENGTH_BYTES = 4
LOAD_TIMEOUT_S = 600.0


@dataclass(eq=False, repr=False)
class ImageSpool:
    """Keeps in `folder` what has come of an image, so that a copy goes on after an interruption."""

    engine: EngineAddress
    folder: Path

    def __post_init__(self) -> None:
        self._sender: asyncio.StreamWriter | None = None
        self._receiving = asyncio.Lock()

    async def receive(self, streams: Streams, image_id: str) -> None:
        """Takes the rest of an image, and loads it. The latest sender is the one that counts.

        The worker says how many bytes it has, and the server what these should add up to. Pieces
        follow, each after its length, and an empty one at the end.
        """
        if self._sender is not None:
            # One that is gone without a word would keep the file.
            self._sender.transport.abort()
        self._sender = streams[1]
        path = self.folder / f"{image_id}.tar"
        async with self._receiving:
            try:
                await self._receive(streams, path)
            # Before the other: some are errors of the operating system, too.
            except DockerException as refused:
                await self._refuse(streams, path, f"its engine does not take it: {refused}")
            except (asyncio.IncompleteReadError, OSError) as broken:
                log.warning("the copy of an image broke off, and goes on from there: %s", broken)

    async def _receive(self, streams: Streams, path: Path) -> None:
        reader, writer = streams
        had_bytes, had_digest = await asyncio.to_thread(self._begin, path)
        writer.write(f"{had_bytes}\n".encode())
        # A sender that leaves before it has said anything is no other copy.
        if (await reader.readuntil()).decode().strip() != had_digest:
            await self._refuse(streams, path, "what it has is of another copy; that begins anew")
            return
        with path.open("ab") as file:
            while length := int.from_bytes(await reader.readexactly(LENGTH_BYTES)):
                await asyncio.to_thread(file.write, await reader.readexactly(length))
        await asyncio.to_thread(self._load, path)
        tunnel.accept(writer)

    async def _refuse(self, streams: Streams, path: Path, reason: str) -> None:
        await asyncio.to_thread(path.unlink)
        tunnel.refuse(streams[1], reason)

    def _begin(self, path: Path) -> tuple[int, str]:
        """The length and the digest of what has come of it; what is there of others goes."""
        for other in self.folder.glob("*.tar"):
            if other != path:
                other.unlink()
        path.touch()
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()

    def _load(self, path: Path) -> None:
        with closing(open_client(self.engine, LOAD_TIMEOUT_S)) as client, path.open("rb") as file:
            client.images.load(file)
        path.unlink()
