"""An engine in memory whose calls fail or wait as a test says."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chowder_local.core.domain import (
    DEFAULT_VERSION,
    EngineMemory,
    EngineNode,
    SandboxId,
    SandboxInfo,
    SandboxState,
    is_release,
)
from chowder_local.core.errors.sandboxes import (
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
    SandboxPaused,
)
from chowder_local.openclaw.shortcuts import OBSERVATIONS_FILE
from tests.scripted import homes
from tests.scripted.gateway import HAVE_PROCESS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from chowder_local.core.domain import SandboxSpec, SandboxUsage
    from chowder_local.instances.engine_protocol import Result
    from tests.scripted.gateway import SandboxGateways


NOWHERE = "http://127.0.0.1:9"
"""An address at which nothing listens."""

OBSERVATIONS = Path(__file__).with_name("observations.json").read_bytes()
"""What the image build has seen of OpenClaw 2026.9.6; the system prompt is shortened."""


@dataclass
class Hold:
    """Delays the return of a call after its effect."""

    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedEngine:
    """Implements `Engine`; `failing` and `holds` are by the name of a call."""

    def __init__(
        self, homes_folder: Path | None = None, gateways: SandboxGateways | None = None
    ) -> None:
        """Without a folder nothing can boot; without `gateways` each address is NOWHERE."""
        self._homes_folder = homes_folder
        self._gateways = gateways
        self.containers: dict[SandboxId, SandboxInfo] = {}
        self.volume_ids: set[SandboxId] = set()
        self.files: dict[SandboxId, dict[str, bytes]] = {}
        self.image_files: dict[str, bytes] = {OBSERVATIONS_FILE: OBSERVATIONS}
        self.furnish: Callable[[Path], object] = lambda _: None
        """What OpenClaw puts into the home on a new volume, besides its configuration."""
        self.calls: list[tuple[str, str]] = []
        self.failing: dict[str, Exception] = {}
        self.holds: dict[str, Hold] = {}
        self.versions: set[str] = {"2026.9.5", "2026.9.6", "2026.9.7"}
        """The OpenClaw releases whose images it has; 2026.9.6 is the server's own."""
        self.booted_versions: dict[SandboxId, str] = {}
        self.examinations: dict[str, bytes] = {}
        """The findings of each release's checks, as JSON."""
        self.node_list: list[EngineNode] = []
        self.node_names: dict[SandboxId, str] = {}
        """Where sandboxes are; the others are on the first node."""
        self.commands = ["init", "openclaw-gateway"]
        """The command lines of each sandbox's processes."""
        self.log = ""
        self.printed: asyncio.Queue[bytes] | None = None
        """Later chunks of a followed log, up to an empty one; None if the log has ended."""
        self.failure_count = 0
        self.fingerprint = "like-this"
        self.memory_reading = EngineMemory(64_000_000_000, 32_000_000_000)
        self.usages: dict[SandboxId, SandboxUsage] = {}
        self.disk: dict[SandboxId, int] = {}
        self.disk_free: int = 10_000_000_000
        self.warm_sandboxes: list[SandboxId] = []
        """Sandboxes that were booted as warm ones."""
        self.booted = SandboxInfo(SandboxId(""), SandboxState.RUNNING)
        """The state of a booted sandbox, except for its id and address."""

    def put(self, sandbox_id: SandboxId, state: SandboxState, **fields: object) -> None:
        """Sets a sandbox's state and creates its volume; MISSING removes the container."""
        self.make_volume(sandbox_id)
        self._place(SandboxInfo(sandbox_id, state), **fields)

    def _place(self, info: SandboxInfo, **fields: object) -> None:
        """Each change of a container is made here, so that its gateway goes with it."""
        if self._gateways is not None:
            url = self._gateways.follow(info.id, info.state)
        else:
            url = NOWHERE if info.state in HAVE_PROCESS else None
        self.containers[info.id] = replace(info, **{"gateway_url": url} | fields)  # type: ignore[arg-type]  # fields of the dataclass
        if info.state is SandboxState.MISSING:
            del self.containers[info.id]

    def home(self, sandbox_id: SandboxId) -> Path:
        """The home on a sandbox's volume. Raises SandboxMissing if it has none."""
        if sandbox_id not in self.volume_ids:
            raise SandboxMissing(f"The volume {sandbox_id} is gone from the engine.")
        assert self._homes_folder is not None
        return self._homes_folder / sandbox_id

    def running_home(self, sandbox_id: SandboxId) -> Path:
        """As `home`, for a program in the sandbox. Raises as an engine that cannot run any."""
        info = self._container(sandbox_id)
        if info.state is SandboxState.PAUSED:
            raise SandboxPaused
        if info.state is not SandboxState.RUNNING:
            raise EngineUnavailable(f"Sandbox {sandbox_id} is not running.")
        return self.home(sandbox_id)

    def put_home(self, sandbox_id: SandboxId, archive: bytes) -> None:
        """Replaces the home on a sandbox's volume by that of an archive of a volume."""
        home = self.home(sandbox_id)
        shutil.rmtree(home)
        homes.unpack(archive, home)

    def make_volume(self, sandbox_id: SandboxId) -> None:
        """Makes a sandbox's volume, if it has none."""
        self.volume_ids.add(sandbox_id)
        if not (home := self.home(sandbox_id)).exists():
            (home / homes.STATE).mkdir(parents=True)
            self.furnish(home)

    def _container(self, sandbox_id: SandboxId) -> SandboxInfo:
        if (info := self.containers.get(sandbox_id)) is None:
            raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
        return info

    def state(self, sandbox_id: SandboxId) -> SandboxState:
        """The state of a sandbox."""
        info = self.containers.get(sandbox_id)
        return SandboxState.MISSING if info is None else info.state

    def address(self, sandbox_id: SandboxId) -> str:
        """The address of a sandbox's gateway, which has a process."""
        url = self._container(sandbox_id).gateway_url
        assert url is not None
        return url

    def made(self, name: str) -> int:
        """How often the call `name` was made."""
        return sum(call == name for call, _ in self.calls)

    async def version(self) -> str:
        await self._call("version")
        return "Scripted 1.0"

    async def check_image(self, version: str = DEFAULT_VERSION) -> None:
        await self._call("check_image")
        self._ensure_image(version)

    async def file_of_image(self, path: str, version: str = DEFAULT_VERSION) -> bytes | None:
        await self._call("file_of_image")
        self._ensure_image(version)
        return self.image_files.get(path)

    async def examine_home(
        self, program: str, source: Path, files: Mapping[str, bytes], version: str
    ) -> bytes:
        await self._call("examine_home")
        return self.examinations.get(version, b"{}")

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        await self._fail("boot", spec.id)
        self._ensure_image(spec.openclaw_version)
        self.booted_versions[spec.id] = spec.openclaw_version
        self.make_volume(spec.id)
        if spec.is_warm:
            self.warm_sandboxes.append(spec.id)
        self.files.setdefault(spec.id, {}).update(spec.files)
        if spec.home is not None:
            self.put_home(spec.id, homes.archive(homes.contents(spec.home.read_bytes())))
        state = self.home(spec.id) / homes.STATE
        state.mkdir(exist_ok=True)
        for name, content in spec.files.items():
            (state / name).write_bytes(content)
        # Another container, with another port.
        self._place(SandboxInfo(spec.id, SandboxState.MISSING))
        self._place(replace(self.booted, id=spec.id, egress=spec.egress))
        await self._hold("boot")
        return self.containers.get(spec.id) or SandboxInfo(spec.id, SandboxState.MISSING)

    def _ensure_image(self, version: str) -> None:
        if is_release(version) and version not in self.versions:
            raise ImageMissing(f"chowder-local/sandbox:{version}-abc")

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        await self._call("inspect", sandbox_id)
        return self.containers.get(sandbox_id) or SandboxInfo(sandbox_id, SandboxState.MISSING)

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        await self._call("sandboxes")
        return dict(self.containers)

    async def volumes(self) -> set[SandboxId]:
        await self._call("volumes")
        return set(self.volume_ids)

    async def pause(self, sandbox_id: SandboxId) -> None:
        await self._change_state("pause", sandbox_id, SandboxState.PAUSED)

    async def unpause(self, sandbox_id: SandboxId) -> None:
        await self._change_state("unpause", sandbox_id, SandboxState.RUNNING)

    async def promote(self, sandbox_id: SandboxId) -> None:
        await self._call("promote", sandbox_id)
        self._container(sandbox_id)

    async def release(self, sandbox_id: SandboxId) -> None:
        await self._change_state("release", sandbox_id, SandboxState.EXITED)

    async def memory(self) -> EngineMemory:
        await self._call("memory")
        return self.memory_reading

    def nodes(self) -> list[EngineNode]:
        return self.node_list

    def node_of(self, sandbox_id: SandboxId) -> str | None:
        first = self.node_list[0].name if self.node_list else None
        return self.node_names.get(sandbox_id, first)

    async def usage(self, sandbox_ids: Collection[SandboxId]) -> dict[SandboxId, SandboxUsage]:
        await self._call("usage")
        return {each: self.usages[each] for each in sandbox_ids if each in self.usages}

    async def disk_bytes(self, sandbox_id: SandboxId, limit: int) -> int:
        await self._call("disk_bytes", sandbox_id)
        self._container(sandbox_id)
        return self.disk.get(sandbox_id, 0)

    async def disk_free_bytes(self, sandbox_id: SandboxId) -> int:
        await self._call("disk_free_bytes", sandbox_id)
        self._container(sandbox_id)
        return self.disk_free

    async def read_home(
        self, sandbox_id: SandboxId, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        await self._call("read_home", sandbox_id)
        return await _read_home(homes.of_folder(self.home(sandbox_id)), work)

    async def rework_home(
        self, program: str, source: Path, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        await self._call("rework_home")
        return await _read_home(homes.archive(homes.contents(source.read_bytes())), work)

    async def remove(self, sandbox_id: SandboxId) -> None:
        await self._fail("remove", sandbox_id)
        self._place(SandboxInfo(sandbox_id, SandboxState.MISSING))
        if sandbox_id in self.volume_ids:
            shutil.rmtree(self.home(sandbox_id), ignore_errors=True)
            self.volume_ids.remove(sandbox_id)
        await self._hold("remove")

    async def processes(self, sandbox_id: SandboxId) -> list[str]:
        await self._call("processes", sandbox_id)
        self._container(sandbox_id)
        return self.commands

    async def log_tail(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> str:
        await self._call("log_tail", sandbox_id)
        return "\n".join(self.log.splitlines()[-line_count:])

    async def follow_log(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> AsyncIterator[bytes]:
        await self._call("follow_log", sandbox_id)
        yield b""
        for line in self.log.splitlines()[-line_count:]:
            yield f"{line}\n".encode()
        while self.printed is not None and (chunk := await self.printed.get()):
            yield chunk

    async def _change_state(self, name: str, sandbox_id: SandboxId, state: SandboxState) -> None:
        await self._fail(name, sandbox_id)
        info = self._container(sandbox_id)
        is_freezing = state is SandboxState.PAUSED
        allowed = (
            {SandboxState.RUNNING} if is_freezing else {SandboxState.RUNNING, SandboxState.PAUSED}
        )
        # Releasing an exited sandbox is allowed.
        if info.state not in allowed and state is not SandboxState.EXITED:
            raise EngineUnavailable(f"The engine could not {name} a sandbox that is {info.state}.")
        self._place(replace(info, state=state))
        await self._hold(name)

    async def _call(self, name: str, sandbox_id: str = "") -> None:
        await self._fail(name, sandbox_id)
        await self._hold(name)

    async def _fail(self, name: str, sandbox_id: str) -> None:
        self.calls.append((name, sandbox_id))
        # A real engine answers from another thread, so other tasks run meanwhile.
        await asyncio.sleep(0)
        failure = self.failing.get(f"{name} {sandbox_id}") or self.failing.get(name)
        if failure is not None:
            raise failure

    async def _hold(self, name: str) -> None:
        if (hold := self.holds.get(name)) is not None:
            hold.has_begun.set()
            await hold.may_end.wait()


async def _read_home(home: bytes, work: Callable[[Iterator[bytes]], Result]) -> Result:
    return await asyncio.to_thread(work, iter([home[:700], home[700:]]))
