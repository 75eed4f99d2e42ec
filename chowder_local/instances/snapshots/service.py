"""Taking, storing and removing snapshots of instances."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceStatus, Snapshot, SnapshotId
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import (
    InstanceStateWrong,
    SnapshotNotFound,
)
from chowder_local.core.errors.sandboxes import OriginMissing, SandboxMissing
from chowder_local.core.tasks import gather_both, logging_errors
from chowder_local.instances.configuration.initial_config import SnapshotSource
from chowder_local.instances.snapshots.archives import CHUNK_BYTES
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.home import sanitize
from chowder_local.openclaw.session_keys import session_key
from chowder_local.store.conversation_histories import ConversationHistory
from chowder_local.store.sessions import NamedSession

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )

    from chowder_local.core.domain import Instance, InstanceId, OrganizationId
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.snapshots.archives import Archives
    from chowder_local.store.conversation_histories import ConversationHistoryQueries
    from chowder_local.store.sessions import SessionQueries
    from chowder_local.store.snapshots import SnapshotQueries

log = logging.getLogger(__name__)

HOME_PREFIX = "data/"
"""The prefix of names in an engine's archive of a home."""
COPYABLE = {InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.ERROR}


@dataclass(eq=False, repr=False, kw_only=True)
class Snapshots:
    """Takes, stores and removes snapshots. Writes the row first, so a crash leaves no orphans."""

    queries: SnapshotQueries
    sessions: SessionQueries
    histories: ConversationHistoryQueries
    archives: Archives
    agents: Agents
    have_jobs: Callable[[InstanceId | None], bool]
    """Whether an instance is known to have scheduled jobs."""
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._in_use: Counter[SnapshotId] = Counter()
        self._clearing = asyncio.Lock()
        self._used_while_clearing: set[SnapshotId] = set()
        self._copying: dict[SnapshotId, _CopyProgress] = {}

    async def of_instance(self, instance_id: InstanceId) -> list[Snapshot]:
        """The snapshots of an instance, oldest first."""
        return await self.queries.of_instance(instance_id)

    async def of_organization(self, organization_id: OrganizationId) -> list[Snapshot]:
        """The snapshots of an organization, including those of deleted instances."""
        return await self.queries.of_organization(organization_id)

    async def get(self, organization_id: OrganizationId, snapshot_id: str) -> Snapshot:
        """A kept snapshot. Raises SnapshotNotFound if the organization has none with that id."""
        snapshot = await self.queries.get(SnapshotId(snapshot_id))
        if snapshot is None or snapshot.organization_id != organization_id:
            raise SnapshotNotFound
        if not (snapshot.is_kept and snapshot.is_whole):
            raise SnapshotNotFound
        return snapshot

    async def take(self, instance: Instance, name: str | None = None) -> Snapshot:
        """A new snapshot of an instance, after a drain.

        Raises InstanceNotFound; InstanceStateWrong if it is `provisioning`, deleted or was never
        ready; EngineUnavailable; ArchiveRefused if its home is invalid.
        """
        async with self.capture(instance, name=name, is_kept=True) as snapshot:
            return snapshot

    @asynccontextmanager
    async def capture(
        self,
        instance: Instance,
        *,
        name: str | None = None,
        is_kept: bool = False,
        is_wanted: Callable[[str], bool] = sanitize.is_in_snapshot,
        meanwhile: Callable[[Snapshot], Awaitable[None]] | None = None,
    ) -> AsyncIterator[Snapshot]:
        """As `take`. A snapshot that is not kept exists until the block has ended and no instance
        is being created from it.

        `meanwhile` is called during the copy with the unfinished snapshot; `source` and `chunks`
        wait for the rest.
        """
        snapshot_id = SnapshotId(str(uuid.uuid4()))
        with self.using(snapshot_id):
            self._copying[snapshot_id] = copying = _CopyProgress()
            try:
                snapshot = await self._copy(
                    instance, snapshot_id, name, is_wanted, meanwhile, is_kept=is_kept
                )
            finally:
                del self._copying[snapshot_id]
                copying.end()
            yield snapshot

    async def rework(self, snapshot: Snapshot, program: str) -> Snapshot:
        """Runs a program on the home of a snapshot that is in use; returns the changed snapshot."""
        source = self.archives.path(snapshot.id)
        fill = partial(
            self.archives.fill, snapshot.id, prefix=HOME_PREFIX, is_wanted=sanitize.is_exported
        )
        async with self._forget_unless_whole(snapshot.id):
            home = await self.agents.engine.rework_home(program, source, fill)
            return await self._finish(snapshot.id, home, snapshot.content)

    async def import_archive(
        self, snapshot_id: SnapshotId, source: IO[bytes], content: Mapping[str, Any]
    ) -> Snapshot:
        """Finishes a snapshot from an uploaded archive. Raises ArchiveRefused if it is invalid."""
        chunks = iter(partial(source.read, CHUNK_BYTES), b"")
        fill = partial(
            self.archives.fill, snapshot_id, chunks, is_wanted=sanitize.is_exported, is_strict=True
        )
        async with self._forget_unless_whole(snapshot_id):
            return await self._finish(snapshot_id, await asyncio.to_thread(fill), content)

    async def add(self, snapshot: Snapshot) -> None:
        """Writes the row of a snapshot before its archive is written; call it within `using`."""
        await self.queries.add(snapshot)

    async def remove(self, organization_id: OrganizationId, snapshot_id: str) -> None:
        """Removes a snapshot once no instance is being created from it. Raises SnapshotNotFound."""
        snapshot = await self.get(organization_id, snapshot_id)
        await self.queries.release(snapshot.id)
        await self.clear_unneeded()

    @contextmanager
    def using(self, snapshot_id: SnapshotId) -> Iterator[None]:
        """Protects a snapshot from `clear_unneeded` during the block."""
        self._in_use[snapshot_id] += 1
        self._used_while_clearing.add(snapshot_id)
        try:
            yield
        finally:
            self._in_use[snapshot_id] -= 1
            if not self._in_use[snapshot_id]:
                del self._in_use[snapshot_id]

    async def source(self, instance: Instance) -> SnapshotSource | None:
        """The origin of an instance that was never ready; None if it is to be blank.

        Waits for the copy. Raises OriginMissing if the copy has failed or is gone.
        """
        if instance.first_ready_at is not None or instance.origin_snapshot_id is None:
            return None
        if (copying := self._copying.get(instance.origin_snapshot_id)) is not None:
            await copying.ended.wait()
        snapshot = await self.queries.get(instance.origin_snapshot_id)
        if snapshot is None or not snapshot.is_whole:
            raise OriginMissing
        config = snapshot.content.get("config")
        # A fork must not use the channels of its original; a restored agent keeps them.
        if isinstance(config, dict) and snapshot.instance_id != instance.id:
            config = agent_config.with_channels_disabled(config)
            if self.have_jobs(snapshot.instance_id):
                # Until `CarriedJobs.settle` has switched each of them off.
                config = agent_config.merged({"cron": {"enabled": False}}, config)
        return SnapshotSource(self.archives.path(snapshot.id), config)

    async def chunks(self, instance: Instance) -> Iterator[bytes]:
        """The archive of an instance's origin, to be read in a thread while it is written.

        Waits until the copy has begun, so that no reading thread takes the place of the writing
        one. Raises SandboxMissing if there is no origin; the iterator raises it if the copy fails.
        """
        if instance.origin_snapshot_id is None:
            raise SandboxMissing("The instance has no snapshot that it could be created from.")
        if (copying := self._copying.get(instance.origin_snapshot_id)) is not None:
            await copying.begun.wait()
        return self.archives.chunks(instance.origin_snapshot_id)

    async def restore_conversations(self, instance: Instance) -> None:
        """Writes the conversation records of the snapshot that an instance was created from."""
        if instance.first_ready_at is not None or instance.origin_snapshot_id is None:
            return
        snapshot = await self.queries.get(instance.origin_snapshot_id)
        await self._write_conversations(instance.id, {} if snapshot is None else snapshot.content)

    async def clear_unneeded(self) -> None:
        """Removes files without rows, unfinished snapshots, and those neither kept nor needed."""
        async with self._clearing:
            # A snapshot that is used at any moment from now on must stay.
            self._used_while_clearing = set(self._in_use)
            # Files first: a row is older than its file, so a file without a row is an orphan.
            files = await asyncio.to_thread(self.archives.ids)
            rows = await self.queries.ids()
            unneeded = (files - rows) | (await self.queries.leftovers() if rows else set())
            for snapshot_id in unneeded:
                if snapshot_id in self._used_while_clearing:
                    continue
                # If this fails, its row or its file is left for the next time.
                with logging_errors(f"snapshot {snapshot_id}: removal"):
                    await self._forget(snapshot_id)

    async def _forget(self, snapshot_id: SnapshotId) -> None:
        await asyncio.to_thread(self.archives.remove, snapshot_id)
        await self.queries.drop(snapshot_id)

    async def _copy(
        self,
        stale: Instance,
        snapshot_id: SnapshotId,
        name: str | None,
        is_wanted: Callable[[str], bool],
        meanwhile: Callable[[Snapshot], Awaitable[None]] | None,
        *,
        is_kept: bool,
    ) -> Snapshot:
        async with self.agents.holding(stale) as agent, AsyncExitStack() as stillness:
            instance = agent.row
            if instance.status not in COPYABLE or instance.first_ready_at is None:
                raise InstanceStateWrong(
                    instance.status, "running or stopped", instance.error_message
                )
            overrides = instance.openclaw_config
            snapshot = Snapshot(
                id=snapshot_id,
                organization_id=instance.organization_id,
                model_provider=instance.model_provider,
                created_at=self.clock(),
                instance_id=instance.id,
                name=name,
                is_kept=is_kept,
                egress=instance.egress,
                content={
                    "overrides": None if overrides is None else dict(overrides),
                    "openclaw_version": instance.openclaw_version,
                    "clock": None if instance.clock is None else asdict(instance.clock),
                    "switched_off_jobs": sorted(instance.switched_off_jobs),
                },
            )
            await self.queries.add(snapshot)
            async with self._forget_unless_whole(snapshot_id):
                still = stillness.enter_async_context(agent.frozen())
                # `meanwhile` first, because a client waits for it.
                await (still if meanwhile is None else gather_both(meanwhile(snapshot), still))
                frozen_at = self.clock()
                fill = partial(
                    self.archives.fill, snapshot_id,
                    prefix=HOME_PREFIX, is_wanted=is_wanted,
                    begun=self._copying[snapshot_id].begin_from_thread,
                )  # fmt: skip
                home, conversations = await gather_both(
                    self.agents.engine.read_home(instance.sandbox_id, fill),
                    self._read_conversations(instance.id),
                )
                # The snapshot leaves out what the agent answers later.
                content = {
                    **snapshot.content, **conversations, "frozen_at": frozen_at.isoformat()
                }  # fmt: skip
                # The agent is resumed while the copy is finished.
                finished, _ = await gather_both(
                    self._finish(snapshot_id, home, content), stillness.pop_all().aclose()
                )
        return finished

    async def _read_conversations(self, instance_id: InstanceId) -> dict[str, Any]:
        """The `sessions` and `histories` of a snapshot's content."""
        sessions = await self.sessions.of_instance(instance_id)
        histories = await self.histories.of_instance(instance_id)
        return await asyncio.to_thread(_write_records, sessions, histories)

    async def _write_conversations(
        self, instance_id: InstanceId, content: Mapping[str, Any]
    ) -> None:
        """Replaces an instance's records by those of a snapshot's content."""
        # There may be very many.
        sessions, histories = await asyncio.to_thread(_read_records, instance_id, content)
        await self.histories.replace(instance_id, histories)
        await self.sessions.replace(instance_id, sessions)

    @asynccontextmanager
    async def _forget_unless_whole(self, snapshot_id: SnapshotId) -> AsyncIterator[None]:
        try:
            yield
        except ChowderError:
            await self._forget(snapshot_id)
            raise

    async def _finish(
        self, snapshot_id: SnapshotId, home: sanitize.SanitizedHome, content: Mapping[str, Any]
    ) -> Snapshot:
        """Keeps the filled archive. Raises DataDirUnusable, SnapshotNotFound if its row is gone."""
        await asyncio.to_thread(self.archives.keep, snapshot_id)
        if "config" not in content:
            content = {**content, "config": agent_config.read_config(home.config)}
        snapshot = await self.queries.finish(snapshot_id, home.size_bytes, content)
        if snapshot is None:
            raise SnapshotNotFound
        if (copying := self._copying.get(snapshot_id)) is not None:
            copying.end()
        return snapshot


def _read_records(
    instance_id: InstanceId, content: Mapping[str, Any]
) -> tuple[list[NamedSession], dict[str, ConversationHistory]]:
    histories = content.get("histories") or {}
    sessions = [
        NamedSession(
            instance_id,
            each["name"],
            session_key(each["name"]),
            datetime.fromisoformat(each["created_at"]),
            datetime.fromisoformat(each["last_used_at"]),
        )
        for each in content.get("sessions") or []
    ]
    return sessions, {key: ConversationHistory.from_json(each) for key, each in histories.items()}


def _write_records(
    sessions: Sequence[NamedSession], histories: Mapping[str, ConversationHistory]
) -> dict[str, Any]:
    return {
        "sessions": [
            {
                "name": each.name,
                "created_at": each.created_at.isoformat(),
                "last_used_at": each.last_used_at.isoformat(),
            }
            for each in sessions
        ],
        "histories": {key: each.to_json() for key, each in histories.items()},
    }


class _CopyProgress:
    """The progress of a snapshot's copy."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begin_from_thread(self) -> None:
        self._loop.call_soon_threadsafe(self.begun.set)

    def end(self) -> None:
        self.begun.set()
        self.ended.set()
