"""A server process with a scripted engine, for `python -m`.

It prints lines of JSON: its `key` and `instance_id`, and then a line for each message that begins.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from chowder_local.app import process
from chowder_local.app.server import Machine
from chowder_local.core.errors import ChowderError
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import EngineAddress
from tests.scripted import gateway as scripted
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.types import Receive, Send

    from chowder_local.services import Services

POLL_S = 0.01
GO = "go"
"""The name of a file in the data directory, and the input of messages that wait for it."""


def main() -> int:
    """Serves until a signal, as `chowder-local up` does."""
    settings = Settings.read(os.environ)
    no_engine = Machine(EngineAddress("unix:///nowhere", "the test"), "none", {}, {})
    vars(process).update(
        open_services=lambda *_: _open_services(settings.data_dir),
        _machine=lambda *_: no_engine,
        STOP_GRACE_S=int(os.environ["TEST_GRACE_S"]),
    )
    try:
        return process.run(settings, os.environ)
    except ChowderError as failure:
        say(error=str(failure))
        return 1


def say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def _open_services(data_dir: Path) -> AsyncIterator[Services]:
    # A world needs an empty folder.
    folder = data_dir / f"world-{os.getpid()}"
    folder.mkdir()
    async with open_world(folder) as world:
        world.gateway.handler = _message_handler(data_dir / GO)
        world.engine.follow_log = _endless_log  # type: ignore[method-assign,assignment]
        instance = await world.created()
        say(key=world.key, instance_id=instance.id)
        yield world.state["services"]


def _message_handler(go: Path) -> scripted.Handler:
    async def handler(message: scripted.ReceivedMessage, receive: Receive, send: Send) -> None:
        text = message.body["input"]
        say(begun=text)
        if text == GO:
            while not go.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(POLL_S)
            await scripted.friendly(message, receive, send)
        elif text == "silent":
            await scripted.silent(message, receive, send)
        else:
            await scripted.endless(message, receive, send)

    return handler


async def _endless_log(*_: object) -> AsyncIterator[bytes]:
    yield b"The first line.\n"
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
