"""From where a node takes an image, and how one is sent to it, over real sockets."""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from docker.errors import APIError
from docker.models.images import Image

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.swarm import tunnel
from chowder_local.engine.swarm.image_copies import ImageSpool, in_registries, send
from chowder_local.engine.swarm.tunnel import Listeners
from chowder_local.engine.swarm.worker import Worker
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from chowder_local.engine.swarm.tunnel import Streams

    Dial = Callable[[], Awaitable[Streams]]

DIGEST = f"sha256:{'0' * 64}"
SECRET = "s" * 64
NODE = "127.0.0.77"
PIECES = [bytes([number]) + os.urandom(700_000) for number in (1, 2, 3)]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the engine of the node was given; it takes no image that begins with a zero."""
    loaded = []

    def load(_: ImageSpool, path: Path) -> None:
        content = path.read_bytes()
        if content.startswith(b"\0"):
            raise APIError("It is no image.")
        loaded.append(content)
        path.unlink()

    monkeypatch.setattr(ImageSpool, "_load", load)
    return loaded


@pytest.fixture
async def dial(tmp_path: Path, loaded: list[bytes]) -> AsyncIterator[Dial]:
    """Opens a stream that takes an image to a worker."""
    async with Listeners.opened() as listeners:
        served = Worker(EngineAddress("unix:///nowhere", "the test"), SECRET, listeners, tmp_path)
        port = await listeners.listen(NODE, 0, served.handle, tunnel.server_tls(SECRET))
        yield partial(tunnel.dial, NODE, port, SECRET, "image abc")


def cut_off() -> Iterator[bytes]:
    yield PIECES[0]
    raise OSError("The cable is cut.")


async def all_sent(chunks: Iterator[bytes], streams: Streams) -> list[int]:
    with closing(streams[1]):
        return [sent_bytes async for sent_bytes in send(chunks, streams)]


async def send_in_vain(dial: Dial, folder: Path) -> None:
    streams = await dial()
    with pytest.raises(OSError, match="cable"):
        await all_sent(cut_off(), streams)
    # A sender that comes before it has arrived would be the one that counts.
    await eventually(lambda: (folder / "abc.tar").stat().st_size == len(PIECES[0]), "it is there")


async def bytes_there(dial: Dial) -> int:
    reader, writer = await dial()
    count = int(await reader.readline())
    writer.transport.abort()
    return count


async def test_an_image_goes_on_where_it_broke_off(
    dial: Dial, loaded: list[bytes], tmp_path: Path
) -> None:
    await send_in_vain(dial, tmp_path)
    assert await bytes_there(dial) == len(PIECES[0])
    sent = await all_sent(iter(PIECES), await dial())
    assert sent == [2 * len(PIECES[0]), 3 * len(PIECES[0])]
    assert loaded == [b"".join(PIECES)]
    assert await bytes_there(dial) == 0


async def test_what_is_there_of_another_copy_begins_anew(
    dial: Dial, loaded: list[bytes], tmp_path: Path
) -> None:
    await send_in_vain(dial, tmp_path)
    another = PIECES[::-1]
    with pytest.raises((EngineUnavailable, OSError)):
        await all_sent(iter(another), await dial())
    await all_sent(iter(another), await dial())
    assert loaded == [b"".join(another)]


async def test_what_the_engine_does_not_take_is_not_kept(dial: Dial) -> None:
    with pytest.raises(EngineUnavailable, match="It is no image"):
        await all_sent(iter([b"\0"]), await dial())
    assert await bytes_there(dial) == 0


def test_only_registries_that_somebody_has_named_are_asked() -> None:
    named = [f"registry.example/sandbox@{DIGEST}", f"localhost:5000/sandbox@{DIGEST}"]
    # An engine with the containerd image store gives it to an image that never left it.
    image = Image({"RepoDigests": [*named, f"chowder-local/sandbox@{DIGEST}"]})
    assert in_registries(image) == named


def test_an_image_that_was_built_here_is_in_none() -> None:
    assert in_registries(Image({"RepoDigests": []})) == []
