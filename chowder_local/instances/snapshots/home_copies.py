"""Temporary copies of the homes of sandboxes that are not running."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core.domain import SnapshotId
from chowder_local.core.errors import ChowderError
from chowder_local.core.tasks import owned_tasks
from chowder_local.instances.configuration.initial_config import Origin
from chowder_local.instances.snapshots.service import HOME_PREFIX
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.home import sanitize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from chowder_local.core.domain import Instance
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.snapshots.archives import Archives
    from chowder_local.instances.snapshots.service import Snapshots

MAX_BYTES = 256 * 1024 * 1024
"""A larger home takes longer to copy than a boot takes."""


@dataclass(frozen=True)
class HomeCopy:
    """A copy that can be read while it is made. Its methods raise what the copying raises."""

    archives: Archives
    copy_id: SnapshotId
    begun: asyncio.Event
    made: asyncio.Future[sanitize.SanitizedHome]

    async def make(self, copying: Awaitable[sanitize.SanitizedHome]) -> None:
        """Makes the copy; it fails where the copy is read."""
        try:
            self.made.set_result(await copying)
        except ChowderError as problem:
            self.made.set_exception(problem)
            # Perhaps nobody reads it any more.
            self.made.exception()
        finally:
            self.begun.set()

    async def chunks(self, _: Instance) -> Iterator[bytes]:
        """The archive, to be read in a thread."""
        await self.begun.wait()
        if self.made.done():
            self.made.result()
        return self.archives.chunks(self.copy_id)

    async def origin(self, _: Instance) -> Origin:
        """The configuration, once the copy is whole."""
        home = await asyncio.shield(self.made)
        return Origin(self.archives.path(self.copy_id), agent_config.read_config(home.config))


@dataclass(eq=False, repr=False)
class HomeCopies:
    """Copies homes beside the archives of snapshots, which a crash leaves to be cleared."""

    engine: Engine
    snapshots: Snapshots

    @asynccontextmanager
    async def open(self, instance: Instance) -> AsyncIterator[HomeCopy]:
        """Copies everything but what belongs to the sandbox; the copy is gone after the block.

        A home that is too large, or has a link that another sandbox could not have, is refused:
        the copy then raises ArchiveRefused.
        """
        copy_id, begun = SnapshotId(str(uuid.uuid4())), asyncio.Event()
        archives, loop = self.snapshots.archives, asyncio.get_running_loop()
        fill = partial(
            archives.fill,
            copy_id,
            prefix=HOME_PREFIX,
            is_wanted=sanitize.is_moved,
            is_strict=True,
            max_bytes=MAX_BYTES,
            begun=partial(loop.call_soon_threadsafe, begun.set),
        )
        with self.snapshots.using(copy_id):
            copy = HomeCopy(archives, copy_id, begun, loop.create_future())
            try:
                async with owned_tasks() as group:
                    group.create_task(copy.make(self.engine.read_home(instance.sandbox_id, fill)))
                    yield copy
            finally:
                await asyncio.to_thread(archives.remove, copy_id)
