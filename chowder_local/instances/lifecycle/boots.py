"""Boots: the queue of them, and waiting until a sandbox's gateway accepts turns."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core.domain import SandboxState
from chowder_local.core.errors.sandboxes import (
    BootFailed,
    BootStarved,
    DiskFull,
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    NodeUnreachable,
    SandboxMissing,
)
from chowder_local.core.events import EventType
from chowder_local.core.untrusted_json import message_of
from chowder_local.openclaw.refusals import names_full_disk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import Instance, InstanceId, SandboxId, SandboxInfo
    from chowder_local.core.events import Events
    from chowder_local.core.metrics import Metrics
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.openclaw.gateway import GatewayOf

log = logging.getLogger(__name__)

MIN_FREE_DISK_BYTES = 1024 * 1024
"""With less free space a disk counts as full: databases grow by pages."""
PROBE_INTERVAL_S = 0.1
INSPECT_EVERY = 10
AWAY_TIMEOUT_S = 30.0
"""An engine that restarts is back within seconds, as is a node whose worker is replaced."""
ENDED_FROM_OUTSIDE = (
    "The sandbox was ended from outside while it booted, as by an engine that restarts. Try again."
)
CHECKS_OF_PROGRESS = 4
"""How often the log is looked at within the boot timeout."""
MOST_TIMEOUTS = 3
"""How many boot timeouts a boot may take whose log goes on."""
LOG_LINES = 200
LOG_CHARACTERS = 256 * 1024
QUOTED_LINES = 4
MAKE_ROOM = "Make room on the engine's disk: 'docker system df' shows what takes it."
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# OpenClaw waits five seconds for a worker of its own, or for a lock that another of them holds.
_STARVED = re.compile(r"state lease heartbeat did not become ready|owns state-lifecycle")
_SIGNIFICANT = re.compile(
    r"error|invalid|fail|refus|unrecognized|blocked|fatal|denied|no space|ENOSPC|disk is full", re.I
)


@dataclass(eq=False, repr=False)
class BootQueue:
    """Bounds how many sandboxes boot at once, and publishes the outcome of each boot."""

    concurrency: int
    events: Events
    metrics: Metrics

    def __post_init__(self) -> None:
        # The processor bounds a boot: more boots at once would only delay all of them.
        self._slots = asyncio.Semaphore(self.concurrency)
        self._waiting: dict[InstanceId, None] = {}

    @property
    def length(self) -> int:
        """The number of instances that wait for their boot to begin."""
        return len(self._waiting)

    def position(self, instance_id: InstanceId) -> int | None:
        """The instance's position in the queue, from 1; None if it does not wait."""
        return next((n for n, each in enumerate(self._waiting, 1) if each == instance_id), None)

    @asynccontextmanager
    async def turn(self, instance: Instance) -> AsyncIterator[None]:
        """Waits for a free slot and holds it during the block, which is the boot."""
        publish = partial(
            self.events.publish, organization_id=instance.organization_id, instance_id=instance.id
        )
        publish(EventType.BOOT_QUEUED)
        self._waiting[instance.id] = None
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            publish(EventType.BOOT_ENDED, outcome="abandoned", took_s=0.0)
            raise
        finally:
            self._waiting.pop(instance.id, None)
        publish(EventType.BOOT_BEGUN)
        began_s, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "ready"
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            self._slots.release()
            took_s = time.monotonic() - began_s
            self.metrics.boot(outcome, took_s)
            publish(EventType.BOOT_ENDED, outcome=outcome, took_s=round(took_s, 3))


@dataclass(eq=False, repr=False)
class Readiness:
    """Waits for gateways to start."""

    engine: Engine
    gateway_of: GatewayOf
    _: KW_ONLY
    boot_timeout_s: float

    async def wait(self, sandbox: SandboxInfo) -> str:
        """The gateway's address once it accepts turns.

        Raises BootFailed at once if the container ends. Raises it after the boot timeout if the
        log has no new line in the last quarter of it, and else after the first such quarter or
        three boot timeouts. Raises DiskFull or BootStarved instead if the log shows that. The
        message quotes the relevant log lines. Raises EngineSilent if the engine has ended the
        container, as one does that restarts; and EngineSilent or NodeUnreachable if the engine or
        the sandbox's node stays away.
        """
        check_s = self.boot_timeout_s / CHECKS_OF_PROGRESS
        lines = ""
        for check in range(1, CHECKS_OF_PROGRESS * MOST_TIMEOUTS + 1):
            try:
                async with asyncio.timeout(check_s):
                    return await self._until_started(sandbox)
            except TimeoutError:
                lines_before, lines = lines, await self._log_of(sandbox)
                if check >= CHECKS_OF_PROGRESS and lines == lines_before:
                    break
        raise await self._failure(
            sandbox,
            f"was not ready after {check * check_s:g} s, at a load of {os.getloadavg()[0]:.0f} on "
            f"{os.cpu_count()} processors. CHOWDER_BOOT_TIMEOUT_S sets how long it may take",
        )

    async def _log_of(self, sandbox: SandboxInfo) -> str:
        try:
            return await self.engine.log_tail(sandbox.id, LOG_LINES)
        except EngineUnavailable as unavailable:
            log.warning("sandbox %s: its log cannot be read: %s", sandbox.id, unavailable)
            return ""

    async def _until_started(self, sandbox: SandboxInfo) -> str:
        while True:
            if sandbox.is_signalled and not sandbox.is_oom_killed:
                raise EngineSilent(ENDED_FROM_OUTSIDE)
            if sandbox.state is not SandboxState.RUNNING or sandbox.gateway_url is None:
                raise await self._failure(sandbox, _ending(sandbox))
            gateway = self.gateway_of(sandbox.id, sandbox.gateway_url)
            for _ in range(INSPECT_EVERY):
                if await gateway.is_started():
                    return sandbox.gateway_url
                await asyncio.sleep(PROBE_INTERVAL_S)
            sandbox = await self._inspect(sandbox)

    async def _inspect(self, sandbox: SandboxInfo) -> SandboxInfo:
        ends_s = time.monotonic() + AWAY_TIMEOUT_S
        while True:
            try:
                return await self.engine.inspect(sandbox.id)
            except (EngineSilent, NodeUnreachable):
                if time.monotonic() >= ends_s:
                    raise
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _failure(self, sandbox: SandboxInfo, what: str) -> BootFailed:
        try:
            lines = significant_lines(await self.engine.log_tail(sandbox.id, LOG_LINES))
        except EngineUnavailable as unavailable:
            return BootFailed(f"The sandbox {what}. {unavailable}")
        quote = f" Its log says: {' | '.join(lines)}" if lines else " Its log says nothing."
        if any(map(names_full_disk, lines)) or await self.is_disk_full(sandbox.id):
            return DiskFull(f"The sandbox {what}, as its disk is full. {MAKE_ROOM}{quote}")
        is_starved = any(_STARVED.search(line) for line in lines)
        return (BootStarved if is_starved else BootFailed)(f"The sandbox {what}.{quote}")

    async def is_disk_full(self, sandbox_id: SandboxId) -> bool:
        """Whether the disk with an agent's files is full, as far as the engine tells."""
        # The engine keeps the log on the same disk, so it may have had no room for the reason.
        try:
            return await self.engine.disk_free_bytes(sandbox_id) < MIN_FREE_DISK_BYTES
        except (EngineUnavailable, ImageMissing, SandboxMissing) as problem:
            log.warning("sandbox %s: its disk cannot be measured: %s", sandbox_id, problem)
            return False


def significant_lines(text: str) -> list[str]:
    """The last lines of a log that mention an error, or else its last lines; each is cut."""
    # The agent's programs can write lines of megabytes.
    shown = text[-LOG_CHARACTERS:].splitlines()
    lines = [message_of(_ANSI.sub("", line)).strip() for line in shown]
    lines = [line for line in lines if line]
    significant = [line for line in lines if _SIGNIFICANT.search(line)]
    return (significant or lines)[-QUOTED_LINES:]


def out_of_memory(sandbox: SandboxInfo) -> str:
    """What has ended a sandbox that the kernel killed, with the limit and how to raise it."""
    limit = (
        "" if sandbox.memory_limit_mb is None else f"its limit is {sandbox.memory_limit_mb} MB; "
    )
    return f"ran out of memory ({limit}raise CHOWDER_MEMORY_LIMIT_MB)"


def _ending(sandbox: SandboxInfo) -> str:
    if sandbox.state is SandboxState.MISSING:
        return "is gone from the engine"
    if sandbox.is_oom_killed:
        return out_of_memory(sandbox)
    if sandbox.state is SandboxState.EXITED:
        return f"ended with exit code {sandbox.exit_code}"
    return f"is {sandbox.state} instead of running"
