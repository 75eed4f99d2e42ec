"""Gives a node the sandbox image that it lacks, from a registry or in pieces from the server."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import APIError, DockerException, ImageNotFound

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import open_client
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.swarm import tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from docker import DockerClient
    from docker.models.images import Image

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
            # A sender that has vanished would keep the file.
            self._sender.transport.abort()
        self._sender = streams[1]
        path = self.folder / f"{image_id}.tar"
        async with self._receiving:
            try:
                await self._receive(streams, path)
            # This comes first, because some of the SDK's errors are errors of the operating system,
            # too.
            except DockerException as refused:
                await self._refuse(streams, path, f"its engine does not take it: {refused}")
            except (asyncio.IncompleteReadError, OSError) as broken:
                log.warning("the copy of an image broke off, and goes on from there: %s", broken)

    async def _receive(self, streams: Streams, path: Path) -> None:
        reader, writer = streams
        had_bytes, had_digest = await asyncio.to_thread(self._begin, path)
        writer.write(f"{had_bytes}\n".encode())
        # A sender that leaves before its first line raises IncompleteReadError: it has no other
        # copy.
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


TIMEOUT_S = 600.0
CHUNK_BYTES = 1024 * 1024


async def copy_missing_image(
    tag: str,
    source: EngineAddress,
    target: EngineAddress,
    dialled: Callable[[str], Awaitable[Streams]],
    progress: Callable[[str], None],
) -> None:
    """Copies an image, unless the target has it; `dialled` opens streams to the target's worker.

    `progress` hears how far the copy is.

    If the image has been pushed to a registry, the target pulls it from there. Either way, it goes
    on after an interruption with what is missing. Raises ImageMissing if the source lacks it, else
    EngineUnavailable.
    """
    began_s = time.monotonic()
    with translated_errors(f"copy the sandbox image to {target.source}", image=tag):
        image_id = await asyncio.to_thread(_missing, tag, source, target)
        if image_id is None:
            return
        giver = await asyncio.to_thread(open_client, source, TIMEOUT_S)
        with closing(giver):
            image = await asyncio.to_thread(giver.images.get, tag)
            log.info("copying the sandbox image %s to %s", tag, target.source)
            streams = await dialled(f"image {image_id.removeprefix('sha256:')}")
            try:
                # The archive is a little larger than the image, and the archive of an empty image
                # has a size, too.
                size_bytes = max(1, image.attrs["Size"])
                chunks = image.save(CHUNK_BYTES, named=tag)
                async for sent_bytes in send(chunks, streams):
                    share = min(1.0, sent_bytes / size_bytes)
                    progress(f"It gets the sandbox image: about {share:.0%}.")
            except (OSError, ValueError) as broken:
                raise EngineUnavailable(
                    f"The copy to {target.source} broke off: {broken}."
                ) from broken
            finally:
                streams[1].close()
    log.info("%s has the sandbox image, after %.0f s", target.source, time.monotonic() - began_s)


async def send(chunks: Iterator[bytes], streams: Streams) -> AsyncIterator[int]:
    """Sends what the worker has not got yet, and gives the number of bytes that it has got.

    Raises EngineUnavailable if it refuses, OSError.
    """
    reader, writer = streams
    sent_bytes = had_bytes = int(await reader.readline())
    had, chunk = hashlib.sha256(), b""
    while had_bytes and (chunk := await asyncio.to_thread(next, chunks, b"")):
        had.update(chunk[:had_bytes])
        had_bytes, chunk = max(0, had_bytes - len(chunk)), chunk[had_bytes:]
    writer.write(f"{had.hexdigest()}\n".encode())
    while chunk := chunk or await asyncio.to_thread(next, chunks, b""):
        writer.write(len(chunk).to_bytes(LENGTH_BYTES))
        writer.write(chunk)
        await writer.drain()
        sent_bytes += len(chunk)
        yield sent_bytes
        chunk = b""
    writer.write((0).to_bytes(LENGTH_BYTES))
    if (answer := (await reader.readline()).decode().strip()) != "ok":
        raise EngineUnavailable(f"The worker refuses the image: {answer or 'it has ended'}.")


def _missing(tag: str, source: EngineAddress, target: EngineAddress) -> str | None:
    """The id of the image that the target lacks, after it has tried registries. Blocks."""
    with (
        closing(open_client(source, TIMEOUT_S)) as giver,
        closing(open_client(target, TIMEOUT_S)) as taker,
    ):
        image = giver.images.get(tag)
        try:
            if taker.images.get(tag).id == image.id:
                return None
        except ImageNotFound:
            pass
        is_pulled = any(_is_pulled(taker, image, tag, each) for each in in_registries(image))
        return None if is_pulled else str(image.id)


def in_registries(image: Image) -> list[str]:
    """The image's digests in registries that somebody has named, not in the default one.

    Engines with the containerd image store give a local image a digest in the default registry.
    """
    hosts = {each: each.split("/", 1)[0] for each in image.attrs.get("RepoDigests") or ()}
    return [each for each, host in hosts.items() if "." in host or ":" in host]


def _is_pulled(taker: DockerClient, image: Image, tag: str, digest: str) -> bool:
    log.info("pulling the sandbox image from %s", digest)
    try:
        pulled = taker.images.pull(digest)
    except APIError as failure:
        log.warning("the sandbox image cannot be pulled from %s: %s", digest, failure.explanation)
        return False
    if pulled.id != image.id:
        return False
    pulled.tag(tag)
    return True
