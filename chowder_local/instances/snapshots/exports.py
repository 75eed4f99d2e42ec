"""Exporting agents to files, and importing them."""

from __future__ import annotations

import asyncio
import json
import logging
import tarfile
import uuid
from contextlib import AsyncExitStack
from dataclasses import KW_ONLY, dataclass
from importlib import resources
from itertools import islice
from typing import IO, TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, model_validator

from chowder_local.core import untrusted_json
from chowder_local.core.domain import (
    DEFAULT_VERSION,
    LARGEST_SEED,
    LATEST_CLOCK_MS,
    Egress,
    ModelProvider,
    Snapshot,
    SnapshotId,
    is_release,
)
from chowder_local.core.errors.agents import VersionUnavailable
from chowder_local.core.errors.requests import ArchiveRefused, BodyTooLarge
from chowder_local.openclaw.config import agent_config, edits
from chowder_local.openclaw.home import sanitize
from chowder_local.openclaw.shortcuts import EXPORTS
from chowder_local.store.conversation_histories import ConversationHistory

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
    from datetime import datetime

    from chowder_local.core.domain import Instance, OrganizationId
    from chowder_local.instances.snapshots.forks import Forks
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.versions import OpenclawVersions
    from chowder_local.openclaw.shortcuts import MayTake

log = logging.getLogger(__name__)

Item = TypeVar("Item")

MANIFEST = "chowder-agent.json"
FORMAT = "chowder-local agent"
VERSION = 1
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
MAX_MANIFEST_VALUES = 1_000_000
"""With the names of members: more than an export of MAX_SESSIONS has."""
MAX_HISTORIES_CHARACTERS = 512 * 1024
"""Histories beyond it are left out: the imported agent gets what clients resend as context."""
MAX_SESSIONS = 100_000
MAX_SESSIONS_CHARACTERS = 24 * 1024 * 1024
"""Names of sessions beyond either are left out, those last used longest ago: a name is stored
again with its next message."""
MAX_SESSION_NAME_CHARACTERS = 64 * 1024
"""As long as the head of a request, in which names come."""
OVERHEAD_CHARACTERS = 200
CHUNK_BYTES = 256 * 1024
NAME_CHARS = 128
PATH_DEPTH_MAX = 32


class _Session(BaseModel):
    name: str = Field(min_length=1, max_length=MAX_SESSION_NAME_CHARACTERS)
    created_at: AwareDatetime
    last_used_at: AwareDatetime


class _History(BaseModel):
    openclaw_session_id: str | None = Field(None, max_length=200)
    items: str = Field("", max_length=MAX_HISTORIES_CHARACTERS)

    @model_validator(mode="after")
    def _is_parsable(self) -> Self:
        ConversationHistory.from_json(self.model_dump())
        return self


_Key = Annotated[str, Field(min_length=1, max_length=200)]


class _Clock(BaseModel):
    offset_ms: int = Field(0, ge=-LATEST_CLOCK_MS, le=LATEST_CLOCK_MS)
    frozen_ms: int | None = Field(None, ge=1, le=LATEST_CLOCK_MS)
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED)


class Manifest(BaseModel):
    """The first file of an archive. An incompatible change of it increases `version`."""

    format: str
    version: int
    made_by: str = ""
    openclaw_version: str = ""
    made_at: AwareDatetime | None = None
    name: str = Field("imported", min_length=1, max_length=NAME_CHARS)
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    egress: Egress | None = None
    clock: _Clock | None = None
    config: dict[str, Any] | None = None
    overrides: dict[str, Any] | None = None
    sessions: list[_Session] = Field(default_factory=list, max_length=MAX_SESSIONS)
    histories: dict[_Key, _History] = Field(default_factory=dict, max_length=100_000)


@dataclass(frozen=True)
class Export:
    """An archive, which is removed when `chunks` is closed."""

    file_name: str
    size: int
    chunks: AsyncGenerator[bytes, None]


@dataclass(eq=False, repr=False)
class Exports:
    """Writes and reads archives: a manifest, then the home."""

    snapshots: Snapshots
    forks: Forks
    _: KW_ONLY
    made_by: str
    versions: OpenclawVersions
    clock: Callable[[], datetime]
    allows: MayTake

    def __post_init__(self) -> None:
        program = resources.files("chowder_local.openclaw.programs") / "scrub.py"
        self._scrub = program.read_text("utf-8")

    async def export(self, instance: Instance) -> Export:
        """An instance as it is now, without secrets of its channels, machine or organization.

        Raises as `Snapshots.take`.
        """
        chunks = self._archive(instance)
        size = int(await anext(chunks))
        return Export(f"{instance.name}.chowder.tar", size, chunks)

    async def import_archive(
        self,
        organization_id: OrganizationId,
        body: AsyncIterator[bytes],
        name: str | None = None,
        max_bytes: int = sanitize.MAX_BYTES,
    ) -> Instance:
        """A new instance, `provisioning`, from the archive in a request's body.

        It runs the release that it was exported from, if that has an image here, or else the
        server's own. Raises ArchiveRefused if it is not a valid export, or if the server's own
        release is older; BodyTooLarge over `max_bytes`,
        ConfigRefused for its overrides, InstanceLimitReached if the tier allows no more.
        """
        snapshot_id = SnapshotId(str(uuid.uuid4()))
        with self.snapshots.using(snapshot_id):
            raw = await asyncio.to_thread(self.snapshots.archives.raw, snapshot_id)
            try:
                with raw.open("r+b") as file:
                    await _receive(body, file, max_bytes)
                    manifest = await asyncio.to_thread(read_manifest, file)
                    version = await self._version_for(manifest.openclaw_version)
                    content = await asyncio.to_thread(_content, manifest)
                    content["openclaw_version"] = version
                    await self.snapshots.add(
                        Snapshot(
                            id=snapshot_id,
                            organization_id=organization_id,
                            model_provider=manifest.model_provider,
                            created_at=self.clock(),
                            name=manifest.name,
                            is_kept=False,
                            egress=manifest.egress,
                        )
                    )
                    snapshot = await self.snapshots.import_archive(snapshot_id, file, content)
            finally:
                await asyncio.to_thread(raw.unlink, missing_ok=True)
            return await self.forks.make(snapshot, name or manifest.name)

    async def _version_for(self, release: str) -> str:
        """The `openclaw_version` for an agent that was exported from a release."""
        if not is_release(release) or release == self.versions.default:
            return DEFAULT_VERSION
        try:
            await self.versions.check(release)
        except VersionUnavailable as unavailable:
            if self.versions.is_newer(release, DEFAULT_VERSION):
                raise ArchiveRefused(
                    "an older OpenClaw does not read what a newer one has written, and "
                    f"{str(unavailable)[0].lower()}{str(unavailable)[1:]}"
                ) from None
            # A newer OpenClaw reads what an older one has written.
            return DEFAULT_VERSION
        return release

    async def _archive(self, instance: Instance) -> AsyncGenerator[bytes, None]:
        """The size in digits, then the archive."""
        is_wanted = sanitize.is_exported
        if not await self.allows(EXPORTS, instance.openclaw_version):
            is_wanted = sanitize.is_in_workspace
        async with AsyncExitStack() as stack:
            snapshot = await stack.enter_async_context(
                self.snapshots.capture(instance, is_wanted=is_wanted)
            )
            snapshot = await self.snapshots.rework(snapshot, self._scrub)
            path = self.snapshots.archives.path(snapshot.id)
            file = await asyncio.to_thread(path.open, "rb")
            stack.callback(file.close)
            head = await asyncio.to_thread(self._head, instance, snapshot)
            yield str(len(head) + snapshot.size_bytes).encode()
            yield head
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    def _head(self, instance: Instance, snapshot: Snapshot) -> bytes:
        return manifest_entry(self._manifest(instance, snapshot).model_dump_json(indent=2).encode())

    def _manifest(self, instance: Instance, snapshot: Snapshot) -> Manifest:
        settings, overrides = snapshot.content.get("config"), snapshot.content.get("overrides")
        return Manifest.model_validate(
            {
                "format": FORMAT,
                "version": VERSION,
                "made_by": self.made_by,
                "openclaw_version": self.versions.release(instance.openclaw_version),
                "made_at": snapshot.created_at,
                "name": instance.name,
                "model_provider": snapshot.model_provider,
                "egress": snapshot.egress,
                "clock": snapshot.content.get("clock"),
                "config": None if settings is None else agent_config.portable(settings),
                "overrides": None
                if overrides is None
                else agent_config.portable(agent_config.to_merge_patch(overrides)),
                "sessions": list(
                    _fitting(
                        islice(snapshot.content.get("sessions") or [], MAX_SESSIONS),
                        lambda each: len(json.dumps(each["name"])),
                        MAX_SESSIONS_CHARACTERS,
                    )
                ),
                "histories": dict(
                    _fitting(
                        (snapshot.content.get("histories") or {}).items(),
                        lambda each: len(each[0]) + len(each[1]["items"]),
                        MAX_HISTORIES_CHARACTERS,
                    )
                ),
            }
        )


def _fitting(items: Iterable[Item], size: Callable[[Item], int], limit: int) -> Iterator[Item]:
    """The first items, as many as fit in a manifest."""
    for each in items:
        limit -= size(each) + OVERHEAD_CHARACTERS
        if limit < 0:
            return
        yield each


def manifest_entry(content: bytes) -> bytes:
    """A serialized manifest as the first entry of a tar archive."""
    entry = tarfile.TarInfo(MANIFEST)
    entry.size, entry.mode = len(content), 0o644
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    return entry.tobuf(tarfile.USTAR_FORMAT) + content + padding


def read_manifest(file: IO[bytes]) -> Manifest:
    """Reads the manifest; the file is then positioned at the home. Raises ArchiveRefused."""
    file.seek(0)
    try:
        header = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeError):
        raise ArchiveRefused("it is not a plain tar archive.") from None
    is_manifest = header.type == tarfile.REGTYPE and header.name == MANIFEST
    if not is_manifest or not 0 < header.size <= MAX_MANIFEST_BYTES:
        raise ArchiveRefused(f"it does not begin with {MANIFEST}.")
    content = file.read(header.size)
    file.seek(-header.size % tarfile.BLOCKSIZE, 1)
    try:
        manifest = untrusted_json.read_object(content, values_max=MAX_MANIFEST_VALUES)
    except ValueError as error:
        raise ArchiveRefused(f"{MANIFEST} is not JSON: {error}.") from None
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("version"), int):
        raise ArchiveRefused(f"{MANIFEST} does not describe an agent.")
    if manifest["version"] > VERSION:
        raise ArchiveRefused(
            f"its version is {manifest['version']}, but this server supports {VERSION}; upgrade it."
        )
    try:
        return Manifest.model_validate(manifest)
    except ValidationError as invalid:
        problem = invalid.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise ArchiveRefused(f"{MANIFEST}: {where}: {problem['msg']}.") from None


def _content(manifest: Manifest) -> dict[str, Any]:
    """The content of an imported snapshot. Raises ArchiveRefused, ConfigRefused for overrides."""
    overrides = manifest.overrides
    if any(path.count(".") > PATH_DEPTH_MAX for path in overrides or {}):
        raise ArchiveRefused(f"{MANIFEST}: overrides: a path has too many parts.")
    return {
        "clock": None if manifest.clock is None else manifest.clock.model_dump(),
        "config": None if manifest.config is None else edits.without_reserved(manifest.config),
        "overrides": None if overrides is None else agent_config.to_merge_patch(overrides),
        "sessions": [each.model_dump(mode="json") for each in manifest.sessions],
        "histories": {key: each.model_dump() for key, each in manifest.histories.items()},
    }


async def _receive(body: AsyncIterator[bytes], file: IO[bytes], max_bytes: int) -> None:
    left = max_bytes
    async for chunk in body:
        left -= len(chunk)
        if left < 0:
            raise BodyTooLarge(max_bytes)
        await asyncio.to_thread(file.write, chunk)
