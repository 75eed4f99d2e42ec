"""Warm sandboxes: made in advance, matched with what instances need, and turned into theirs."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from cachetools import LRUCache

from chowder_local.core.domain import SandboxId, SandboxSpec, SandboxState, WarmSandbox
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.sandboxes import EngineUnavailable, NodeUnreachable, SandboxMissing
from chowder_local.core.tasks import gather_both
from chowder_local.instances.lifecycle.agents import new_sandbox_id
from chowder_local.instances.snapshots.service import HOME_PREFIX
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.agent_config import BLANK_PROVIDER
from chowder_local.openclaw.home import sanitize
from chowder_local.openclaw.models import DEFAULT_MODELS, ModelRoute
from chowder_local.openclaw.shortcuts import STATE_TRANSFER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
    from datetime import datetime

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance, OrganizationId
    from chowder_local.instances.configuration.initial_config import SnapshotSource
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.versions import OpenclawVersions
    from chowder_local.openclaw.home.state_transfer import StateTransfers
    from chowder_local.openclaw.shortcuts import MayTake
    from chowder_local.openclaw.warmup import WarmUp
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

    Make = Callable[[Callable[[], None]], Awaitable[str]]
    """Makes a sandbox and returns its gateway's address; calls its argument once its container
    runs and may be filled."""

log = logging.getLogger(__name__)

WAKE_TIMEOUT_S = 15.0
"""Warm sandboxes that are resumed at once slow each other down; discarding one costs a boot."""
BURST = timedelta(seconds=30)
"""Warm sandboxes that are wanted within this time are wanted at once: each takes a boot to make."""
KEPT = timedelta(hours=1)
"""For how long a burst is remembered."""
KEPT_MAX = 1000
CLAIMED_KEPT = 10_000


class NeverReady(GatewayUnavailable):
    """A sandbox that was claimed while it was made could not be made."""

    def __init__(self) -> None:
        super().__init__("the warm sandbox never became ready")


@dataclass(eq=False, repr=False, kw_only=True)
class WarmSandboxes:
    """Makes, freezes, resumes and discards warm sandboxes; the store assigns them."""

    queries: WarmSandboxQueries
    agents: Agents
    snapshots: Snapshots
    warm_up: WarmUp
    state_transfers: StateTransfers
    allows: MayTake
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._claimable: set[SandboxId] = set()
        self._reserving = asyncio.Lock()
        self._booting: dict[SandboxId, _BootProgress] = {}
        self._made_as: LRUCache[SandboxId, str] = LRUCache(CLAIMED_KEPT)
        """The fingerprints of those that instances have claimed."""
        self._blank: tuple[str, bytes] | None = None
        self.on_claim: Callable[[], None] = lambda: None
        """Called when an instance has claimed one."""

    @property
    def fingerprint(self) -> str:
        """Identifies everything that a warm sandbox is made of now."""
        parts = (
            self.agents.engine.fingerprint,
            self.agents.initial_configs.fingerprint,
            self.agents.egress.default,
        )
        return ".".join((*parts, self.warm_up.fingerprint))

    async def engine_answers(self) -> bool:
        """Whether the engine could make and freeze any now."""
        try:
            await self.agents.engine.version()
        except EngineUnavailable:
            return False
        return True

    @asynccontextmanager
    async def reserve_booting(self) -> AsyncIterator[Collection[SandboxId]]:
        """The warm sandboxes that are booting, for an instance that finds none ready.

        The instance claims one by dropping its row within the block; `turn_into` then waits for it.
        """
        async with self._reserving:
            yield frozenset(self._claimable)

    @property
    def blank_home(self) -> bytes | None:
        """The home of one that nobody has used, as a tar; None until one has booted."""
        return self._blank[1] if self._blank and self._blank[0] == self.fingerprint else None

    async def learn_from(self, ready: Collection[WarmSandbox]) -> None:
        """Reads a blank home, unless it is known. Raises EngineUnavailable, ArchiveRefused."""
        for warm in ready:
            if self.blank_home is not None:
                return
            if warm.fingerprint == self.fingerprint:
                home = await self.agents.engine.read_home(warm.sandbox_id, _read)
                # Else it may be the home of an instance already.
                if await self.queries.has(warm.sandbox_id):
                    self._blank = (warm.fingerprint, home)

    async def _learn_from_booted(self, sandbox_id: SandboxId, url: str) -> None:
        """As `learn_from`, from one whose gateway has just started, and has no home applied yet."""
        if self.blank_home is not None:
            return
        try:
            await self.agents.gateway_of(sandbox_id, url).open_conversations()
            # An instance that claimed it in between could run no program in it.
            async with self._reserving:
                # The databases then are as they were at one moment.
                await self.agents.engine.pause(sandbox_id)
                try:
                    home = await self.agents.engine.read_home(sandbox_id, _read)
                finally:
                    await self.agents.engine.unpause(sandbox_id)
            self._blank = (self.fingerprint, home)
        except ChowderError as problem:
            log.warning("warm sandbox %s: its home is not known: %s", sandbox_id, problem)

    def note_made(self, sandbox_id: SandboxId) -> None:
        """An instance's sandbox is as warm ones are made now, although it was none."""
        self._made_as[sandbox_id] = self.fingerprint

    def made_as(self, sandbox_id: SandboxId) -> str | None:
        """The fingerprint of an instance's sandbox; None for one that is not like a warm one."""
        return self._made_as.get(sandbox_id)

    def age_s(self, warm: WarmSandbox) -> float:
        """Since when it has been one."""
        return (self.clock() - warm.created_at).total_seconds()

    async def make(self) -> None:
        """Boots one and warms it up, unless an instance claims it meanwhile.

        Raises ChowderError if the boot or the warm-up fails.
        """
        sandbox_id = new_sandbox_id()
        # The row first: if the server dies meanwhile, it marks the sandbox as unclaimed.
        await self.queries.add(WarmSandbox(sandbox_id, self.fingerprint, self.clock()))
        if (url := await self.offer(sandbox_id, partial(self._boot, sandbox_id))) is None:
            return
        # To wait for the rest of the warm-up takes less than a boot.
        if await self.offer(sandbox_id, partial(self._warm, sandbox_id, url)) is None:
            return
        await self.agents.engine.promote(sandbox_id)
        await self.put_by(sandbox_id, url)

    async def put_by(self, sandbox_id: SandboxId, url: str) -> None:
        """Freezes one that no instance has claimed until one does."""
        try:
            # The receiving program starts now, because its start would take a fifth of the time of
            # a fork.
            if await self.allows(STATE_TRANSFER):
                await self.state_transfers.prepare(sandbox_id)
        except ChowderError as problem:
            log.warning("warm sandbox %s: not prepared for forks: %s", sandbox_id, problem)
        await self.agents.engine.pause(sandbox_id)
        await self.queries.ready(sandbox_id, url)
        log.info("warm sandbox %s: ready", sandbox_id)

    async def _boot(self, sandbox_id: SandboxId, container_started: Callable[[], None]) -> str:
        files = {agent_config.CONFIG_FILE: self.agents.initial_configs.blank(sandbox_id)}
        spec = SandboxSpec(sandbox_id, files, is_warm=True, egress=self.agents.egress.default)
        sandbox = await self.agents.engine.boot(spec)
        container_started()
        url = await self.agents.readiness.wait(sandbox)
        await self._learn_from_booted(sandbox_id, url)
        return url

    async def _warm(self, sandbox_id: SandboxId, url: str, warmed: Callable[[], None]) -> str:
        model = ModelRoute(BLANK_PROVIDER, DEFAULT_MODELS[BLANK_PROVIDER]).openclaw_model
        # Their model calls are not those of an instance that claims it meanwhile.
        with self.queries.warming(sandbox_id):
            await self.warm_up.warm(sandbox_id, self.agents.gateway_of(sandbox_id, url), model)
        warmed()
        return url

    async def offer(self, sandbox_id: SandboxId, make: Make) -> str | None:
        """Makes one that instances may claim meanwhile, and returns the gateway's address.

        None if an instance has claimed it. Raises the ChowderError of `make`.
        """
        progress = self._booting[sandbox_id] = _BootProgress()
        self._claimable.add(sandbox_id)
        url, failure = None, None
        try:
            url = await make(progress.container_started)
        except ChowderError as problem:
            failure = problem
        finally:
            self._claimable.discard(sandbox_id)
            progress.ended(url)
        # No claim is possible from now on.
        async with self._reserving:
            is_claimed = not await self.queries.has(sandbox_id)
        if is_claimed:
            # `turn_into` owns the sandbox from here.
            if failure is not None:
                log.warning("warm sandbox %s: claimed, but not made: %s", sandbox_id, failure)
            return None
        self._booting.pop(sandbox_id, None)
        if failure is not None:
            raise failure
        return url

    async def is_fit(self, warm: WarmSandbox) -> bool:
        """Whether an instance could claim it."""
        if warm.gateway_url is None or warm.fingerprint != self.fingerprint:
            return False
        try:
            return (await self.agents.engine.inspect(warm.sandbox_id)).state is SandboxState.PAUSED
        except NodeUnreachable:
            return False

    async def is_one_for(self, organization_id: OrganizationId) -> bool:
        """Whether there is one for an organization alone, or soon will be."""
        return any(each.organization_id == organization_id for each in await self.queries.all())

    async def discard(self, warm: WarmSandbox) -> bool:
        """Destroys a warm sandbox; False if an instance has claimed it before."""
        if not await self.queries.drop(warm.sandbox_id):
            return False
        await self.forget(warm.sandbox_id)
        await self.agents.engine.remove(warm.sandbox_id)
        return True

    async def forget(self, sandbox_id: SandboxId) -> None:
        """Drops the state of a warm sandbox that left the pool; the sandbox itself stays."""
        self._booting.pop(sandbox_id, None)
        await self.state_transfers.forget(sandbox_id)

    async def turn_into(
        self, instance: Instance, warm: WarmSandbox, homes: Homes | None = None
    ) -> str:
        """Turns a claimed warm sandbox into the instance's own; returns the gateway's address.

        It accepts turns when this returns. Its home comes from `homes`, or else from its origin.
        Raises ChowderError; NeverReady if it was still being made, and that has failed.
        """
        self.on_claim()
        try:
            url = await self._turn_into(instance, warm, homes)
            self._made_as[warm.sandbox_id] = warm.fingerprint
            return url
        finally:
            await self.state_transfers.forget(warm.sandbox_id)

    async def _turn_into(self, instance: Instance, warm: WarmSandbox, homes: Homes | None) -> str:
        if (url := warm.gateway_url) is None:
            progress = await self._take_booting(warm.sandbox_id)
            # Before the gateway is ready: a home that needs another boot need not wait for it.
            patch = await self._hydrate(instance, progress.wait_for_gateway, homes)
            url = await progress.wait_for_gateway()
            gateway = self.agents.gateway_of(warm.sandbox_id, url)
            is_started = await gateway.wait_until_started(WAKE_TIMEOUT_S)
        else:
            await self.agents.engine.unpause(warm.sandbox_id)
            gateway = self.agents.gateway_of(warm.sandbox_id, url)
            patch, is_started = await gather_both(
                self._hydrate(instance, homes=homes),
                gateway.wait_until_started(WAKE_TIMEOUT_S),
            )
        if instance.clock is not None:
            await gateway.set_clock(instance.clock)
        began_s = time.monotonic()
        if patch and await gateway.patch_config(patch):
            await gateway.wait_for_restart(began_s)
            is_started = await gateway.wait_until_started(WAKE_TIMEOUT_S)
        if not is_started:
            raise GatewayUnavailable("the warm sandbox does not accept turns")
        return url

    async def _hydrate(
        self,
        instance: Instance,
        when_booted: Callable[[], Awaitable[str]] | None = None,
        homes: Homes | None = None,
    ) -> dict[str, Any]:
        """Transfers the instance's home; returns the configuration patch that remains to be made.

        `when_booted` returns the gateway's address of a sandbox that still boots. Without `homes`,
        the home is that of the snapshot that the instance is created from. Raises ChowderError.
        """
        if homes is None and instance.origin_snapshot_id is None:
            return self.agents.initial_configs.patch_of_blank(instance, None)
        if not await self.allows(STATE_TRANSFER):
            raise GatewayUnavailable("the state transfer does not fit this OpenClaw")
        homes = homes or self.snapshots
        async with self.state_transfers.open(instance.sandbox_id) as transfer:
            await transfer.unpack(await homes.chunks(instance))
            if when_booted is not None:
                await transfer.check()
                gateway = self.agents.gateway_of(instance.sandbox_id, await when_booted())
                await gateway.open_conversations()
            _, origin = await gather_both(transfer.apply(), homes.source(instance))
            if homes is not self.snapshots:
                # The former volume is removed next; a snapshot's archive stays for a while.
                await transfer.sync()
        if origin is None:
            raise SandboxMissing("The instance has no snapshot that it could be created from.")
        return self.agents.initial_configs.patch_of_blank(instance, origin)

    async def _take_booting(self, sandbox_id: SandboxId) -> _BootProgress:
        """A warm sandbox that was claimed during its boot, once its container runs."""
        if (progress := self._booting.pop(sandbox_id, None)) is None:
            raise NeverReady
        if self.queries.is_warming(sandbox_id):
            # The rest of the warm-up is as urgent as a boot.
            await self.agents.engine.promote(sandbox_id)
            await progress.wait_for_container()
        else:
            await progress.wait_for_container()
            await self.agents.engine.promote(sandbox_id)
        return progress


class _BootProgress:
    """The progress of a warm sandbox's boot."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._has_started: asyncio.Future[bool] = loop.create_future()
        self._url: asyncio.Future[str | None] = loop.create_future()

    def container_started(self) -> None:
        self._has_started.set_result(True)

    def ended(self, url: str | None) -> None:
        """Sets the gateway's address, or None if the boot has failed."""
        if not self._has_started.done():
            self._has_started.set_result(False)
        self._url.set_result(url)

    async def wait_for_container(self) -> None:
        """Waits until the container runs. Raises NeverReady if the boot fails before."""
        if not await asyncio.shield(self._has_started):
            raise NeverReady

    async def wait_for_gateway(self) -> str:
        """The gateway's address, once it is booted. Raises NeverReady if that fails."""
        if (url := await asyncio.shield(self._url)) is None:
            raise NeverReady
        return url


@dataclass(eq=False, repr=False)
class WarmSandboxMatcher:
    """Compares what an instance needs with what warm sandboxes are made of."""

    warm_sandboxes: WarmSandboxes
    organizations: Organizations
    demand: Demand
    versions: OpenclawVersions

    async def fingerprint_for(self, instance: Instance) -> str | None:
        """The fingerprint of the warm sandbox that an instance wants now, whether or not it exists.

        None if none fits.
        """
        if not self.versions.is_default(instance):
            return None
        organization_id, provider = instance.organization_id, instance.model_provider
        # Without a key the boot fails, and a warm sandbox would be wasted.
        if await self.organizations.model_key(organization_id, provider) is None:
            return None
        egress = self.warm_sandboxes.agents.egress
        if egress.effective(instance) is not egress.default:
            return None
        if instance.has_home and not await self.warm_sandboxes.allows(STATE_TRANSFER):
            return None
        if not await self.warm_sandboxes.is_one_for(organization_id):
            self.demand.add()
        return self.warm_sandboxes.fingerprint


@dataclass(eq=False, repr=False)
class Demand:
    """Remembers when warm sandboxes were wanted; the warm pool's size follows the largest burst."""

    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._times: deque[datetime] = deque(maxlen=KEPT_MAX)
        self.changed = asyncio.Event()
        """Set when one is wanted."""

    def add(self, count: int = 1) -> None:
        """An instance wants a warm sandbox now, or `count` instances do."""
        self._times.extend([self.clock()] * count)
        self.changed.set()

    def peak(self) -> int:
        """The number of the largest burst that is remembered."""
        oldest = self.clock() - KEPT
        while self._times and self._times[0] < oldest:
            self._times.popleft()
        largest = first = 0
        for count, at in enumerate(self._times, 1):
            while at - self._times[first] > BURST:
                first += 1
            largest = max(largest, count - first)
        return largest


def _read(source: Iterable[bytes]) -> bytes:
    target = io.BytesIO()
    sanitize.sanitize_home(
        source, target, prefix=HOME_PREFIX, is_wanted=sanitize.is_moved, is_strict=True
    )
    return target.getvalue()


class Homes(Protocol):
    """Where the homes of instances are read from; either may still be being copied."""

    async def chunks(self, instance: Instance) -> Iterator[bytes]:
        """The archive of the instance's home."""

    async def source(self, instance: Instance) -> SnapshotSource | None:
        """Its configuration, once the archive is whole."""
