"""An engine in memory that fails, or takes its time, where a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chowder_local.core.domain import EngineMemory, SandboxId, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from tests.scripted import homes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator
    from pathlib import Path

    from chowder_local.core.domain import SandboxSpec, SandboxUsage
    from chowder_local.instances.engine_protocol import Result


@dataclass
class Hold:
    """Keeps a call from returning, after it has had its effect."""

    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedEngine:
    """What `Engine` asks for, with `failing` and `holds` by the name of a call."""

    def __init__(self, gateway_url: str) -> None:
        self.gateway_url = gateway_url
        self.found: dict[SandboxId, SandboxInfo] = {}
        self.having_volumes: set[SandboxId] = set()
        self.files: dict[SandboxId, dict[str, bytes]] = {}
        self.image_files: dict[str, bytes] = {}
        self.homes: dict[SandboxId, bytes] = {}
        """Archives of what is on volumes; a blank agent's if it is not here."""
        self.calls: list[tuple[str, str]] = []
        self.failing: dict[str, Exception] = {}
        self.holds: dict[str, Hold] = {}
        self.log = ""
        self.printed: asyncio.Queue[bytes] | None = None
        """What a log that is followed goes on with, up to an empty piece; None: it has ended."""
        self.failure_count = 0
        self.fingerprint = "like-this"
        self.memory_found = EngineMemory(64_000_000_000, 32_000_000_000)
        self.usages: dict[SandboxId, SandboxUsage] = {}
        self.disk: dict[SandboxId, int] = {}
        self.disk_free: int = 10_000_000_000
        self.warm_sandboxes: list[SandboxId] = []
        """What was booted as a warm sandbox."""
        self.booted = SandboxInfo(SandboxId(""), SandboxState.RUNNING, gateway_url)
        """What a sandbox is like once it was booted, but for its id."""
        self.after_boot: Callable[[], None] = lambda: None

    def put(self, sandbox_id: SandboxId, state: SandboxState, **fields: object) -> None:
        """Makes a sandbox be in a state, with its volume; MISSING takes the container away."""
        self.having_volumes.add(sandbox_id)
        if state is SandboxState.MISSING:
            self.found.pop(sandbox_id, None)
            return
        known = {"gateway_url": self.gateway_url if _has_port(state) else None} | fields
        self.found[sandbox_id] = replace(SandboxInfo(sandbox_id, state), **known)  # type: ignore[arg-type]  # fields of the dataclass

    def state(self, sandbox_id: SandboxId) -> SandboxState:
        """The state that a sandbox is in."""
        known = self.found.get(sandbox_id)
        return SandboxState.MISSING if known is None else known.state

    def made(self, name: str) -> int:
        """How often a call was made."""
        return sum(call == name for call, _ in self.calls)

    async def version(self) -> str:
        await self._call("version")
        return "Scripted 1.0"

    async def check_image(self) -> None:
        await self._call("check_image")

    async def file_of_image(self, path: str) -> bytes | None:
        await self._call("file_of_image")
        return self.image_files.get(path)

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        await self._fail("boot", spec.id)
        self.having_volumes.add(spec.id)
        if spec.is_warm:
            self.warm_sandboxes.append(spec.id)
        self.files.setdefault(spec.id, {}).update(spec.files)
        if spec.home is not None:
            self.homes[spec.id] = homes.as_given(spec.home.read_bytes(), spec.files)
        self.found[spec.id] = replace(self.booted, id=spec.id, egress=spec.egress)
        self.after_boot()
        await self._hold("boot")
        return self.found.get(spec.id) or SandboxInfo(spec.id, SandboxState.MISSING)

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        await self._call("inspect", sandbox_id)
        return self.found.get(sandbox_id) or SandboxInfo(sandbox_id, SandboxState.MISSING)

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        await self._call("sandboxes")
        return dict(self.found)

    async def volumes(self) -> set[SandboxId]:
        await self._call("volumes")
        return set(self.having_volumes)

    async def pause(self, sandbox_id: SandboxId) -> None:
        await self._turn("pause", sandbox_id, SandboxState.PAUSED)

    async def unpause(self, sandbox_id: SandboxId) -> None:
        await self._turn("unpause", sandbox_id, SandboxState.RUNNING)

    async def promote(self, sandbox_id: SandboxId) -> None:
        await self._call("promote", sandbox_id)

    async def release(self, sandbox_id: SandboxId) -> None:
        await self._turn("release", sandbox_id, SandboxState.EXITED)

    async def memory(self) -> EngineMemory:
        await self._call("memory")
        return self.memory_found

    async def usage(self, sandbox_ids: Collection[SandboxId]) -> dict[SandboxId, SandboxUsage]:
        await self._call("usage")
        return {each: self.usages[each] for each in sandbox_ids if each in self.usages}

    async def disk_bytes(self, sandbox_id: SandboxId, limit: int) -> int:
        await self._call("disk_bytes", sandbox_id)
        return self.disk.get(sandbox_id, 0)

    async def disk_free_bytes(self, sandbox_id: SandboxId) -> int:
        await self._call("disk_free_bytes", sandbox_id)
        return self.disk_free

    async def read_home(
        self, sandbox_id: SandboxId, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        await self._call("read_home", sandbox_id)
        if sandbox_id not in self.having_volumes:
            raise SandboxMissing(f"The volume {sandbox_id} is gone from the engine.")
        return await _worked(self.homes.get(sandbox_id) or homes.blank(), work)

    async def rework_home(
        self, program: str, source: Path, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        await self._call("rework_home")
        return await _worked(homes.archive(homes.contents(source.read_bytes())), work)

    async def remove(self, sandbox_id: SandboxId) -> None:
        await self._fail("remove", sandbox_id)
        self.found.pop(sandbox_id, None)
        self.having_volumes.discard(sandbox_id)
        await self._hold("remove")

    async def log_tail(self, sandbox_id: SandboxId, line_count: int) -> str:
        await self._call("log_tail", sandbox_id)
        return "\n".join(self.log.splitlines()[-line_count:])

    async def follow_log(self, sandbox_id: SandboxId, line_count: int) -> AsyncIterator[bytes]:
        await self._call("follow_log", sandbox_id)
        yield b""
        for line in self.log.splitlines()[-line_count:]:
            yield f"{line}\n".encode()
        while self.printed is not None and (piece := await self.printed.get()):
            yield piece

    async def _turn(self, name: str, sandbox_id: SandboxId, state: SandboxState) -> None:
        await self._fail(name, sandbox_id)
        known = self.found.get(sandbox_id)
        if known is None:
            raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
        is_freezing = state is SandboxState.PAUSED
        fit = {SandboxState.RUNNING} if is_freezing else {SandboxState.RUNNING, SandboxState.PAUSED}
        # What ends anyway may have ended.
        if known.state not in fit and state is not SandboxState.EXITED:
            raise EngineUnavailable(f"The engine could not {name} a sandbox that is {known.state}.")
        self.found[sandbox_id] = replace(known, state=state)
        await self._hold(name)

    async def _call(self, name: str, sandbox_id: str = "") -> None:
        await self._fail(name, sandbox_id)
        await self._hold(name)

    async def _fail(self, name: str, sandbox_id: str) -> None:
        self.calls.append((name, sandbox_id))
        # A real engine answers from another thread, so whoever waits next gets its turn here.
        await asyncio.sleep(0)
        failure = self.failing.get(f"{name} {sandbox_id}") or self.failing.get(name)
        if failure is not None:
            raise failure

    async def _hold(self, name: str) -> None:
        if (hold := self.holds.get(name)) is not None:
            hold.has_begun.set()
            await hold.may_end.wait()


async def _worked(home: bytes, work: Callable[[Iterator[bytes]], Result]) -> Result:
    return await asyncio.to_thread(work, iter([home[:700], home[700:]]))


def _has_port(state: SandboxState) -> bool:
    return state in {SandboxState.RUNNING, SandboxState.PAUSED}
