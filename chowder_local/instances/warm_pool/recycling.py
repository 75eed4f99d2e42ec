"""Making a used sandbox blank again, which spares the boot of another one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.domain import AgentClock, InstanceStatus, WarmSandbox
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.tasks import logging_errors
from chowder_local.instances.lifecycle.agents import DRAIN_POLL_S, new_sandbox_id
from chowder_local.openclaw.config import edits
from chowder_local.openclaw.shortcuts import STATE_TRANSFER
from chowder_local.openclaw.standing_work import has_foreign_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Instance, OrganizationId, SandboxId
    from chowder_local.instances.lifecycle.agents import Agent
    from chowder_local.instances.versions import OpenclawVersions
    from chowder_local.instances.warm_pool.sandboxes import Make, WarmSandboxes
    from chowder_local.openclaw.file_programs import FilePrograms
    from chowder_local.openclaw.gateway import Gateway

log = logging.getLogger(__name__)

TIMEOUT_S = 20.0
"""For all of it: an instance may wait for that, and a gateway is what its agent has made of it.

It takes a second, or four on a busy machine."""
DRAIN_TIMEOUT_S = 3.0
"""For what an agent still does of its own, such as a turn about a command that has ended."""
READ_ON_DEMAND = {"agents", "messages", "models", "session", "tools"}
"""Sections of a configuration of which a gateway keeps nothing when they change."""


@dataclass(eq=False, repr=False, kw_only=True)
class Recycling:
    """Makes the sandboxes of deleted and restored instances warm ones again.

    The gateway's memory may still have texts of the former agent, which a program in the sandbox
    could find. So only instances of the same organization may claim such a sandbox, if that allows
    it; or the same instance.
    """

    warm_sandboxes: WarmSandboxes
    organizations: Organizations
    versions: OpenclawVersions
    file_programs: FilePrograms
    group: asyncio.TaskGroup
    setting: bool | None
    """The server's: on for all organizations, off, or as each organization has it."""

    def __post_init__(self) -> None:
        self.in_progress: set[SandboxId] = set()
        """What is made blank now, until it is frozen."""

    async def look_at(self, booted: Instance) -> None:
        """Notes whether a sandbox that has just booted with its agent's home could be made blank.

        Only now the gateway has no more in memory than its home has.
        """
        egress = self.warm_sandboxes.agents.egress.default
        if (
            not self.versions.is_default(booted)
            or booted.egress not in {None, egress}
            or not await self.warm_sandboxes.allows(STATE_TRANSFER)
            or not await self._is_allowed(booted)
        ):
            return
        try:
            async with self.warm_sandboxes.state_transfers.open(booted.sandbox_id) as transfer:
                await transfer.check_own()
        except ChowderError as problem:
            log.info("sandbox %s: is used once: %s", booted.sandbox_id, problem)
        else:
            self.warm_sandboxes.note_made(booted.sandbox_id)

    async def take_deleted(self, agent: Agent, used: Instance) -> bool:
        """Begins to make a deleted instance's sandbox blank, for others of its organization.

        False if that cannot be, or the organization does not allow it. `used` is the instance as it
        was; its row names another sandbox afterwards, which does not exist.
        """
        if not await self._is_allowed(used) or (recycle := await self._recycle_of(used)) is None:
            return False
        with self.warm_sandboxes.queries.holding(used.sandbox_id):
            await agent.move_sandbox(new_sandbox_id())
            await self._begin(used, recycle)
        return True

    async def take_restored(self, used: Instance, *, is_needed: bool) -> bool:
        """As `take_deleted`, for a sandbox that no row names any more.

        If it `is_needed` by the instance itself, its organization need not allow it.
        """
        is_allowed = is_needed or await self._is_allowed(used)
        if not is_allowed or (recycle := await self._recycle_of(used)) is None:
            return False
        await self._begin(used, recycle)
        return True

    async def discard_all(self, organization_id: OrganizationId) -> None:
        """Destroys those that wait for the organization's instances. Raises EngineUnavailable."""
        for warm in await self.warm_sandboxes.queries.all():
            if warm.organization_id == organization_id:
                await self.warm_sandboxes.discard(warm)

    async def _is_allowed(self, used: Instance) -> bool:
        if self.setting is None:
            details = await self.organizations.details(used.organization_id)
            return details.organization.reuses_sandboxes
        return self.setting

    async def _recycle_of(self, used: Instance) -> Make | None:
        """What makes its sandbox blank; None if that is not like the warm ones of now."""
        fingerprint = self.warm_sandboxes.fingerprint
        if (
            self.setting is False
            # What a stopped one was doing would go on while it is made blank.
            or used.status is not InstanceStatus.RUNNING
            or used.gateway_url is None
            or not (used.clock is None or used.clock.is_of_the_machine)
            or used.egress not in {None, self.warm_sandboxes.agents.egress.default}
            or self.warm_sandboxes.made_as(used.sandbox_id) != fingerprint
            or (blank := self.warm_sandboxes.blank_home) is None
            or not await self.warm_sandboxes.allows(STATE_TRANSFER)
        ):
            return None
        return partial(self._clear_in_time, used, used.gateway_url, blank)

    async def _begin(self, used: Instance, make: Make) -> None:
        warm_sandboxes = self.warm_sandboxes
        warm = WarmSandbox(
            used.sandbox_id,
            warm_sandboxes.fingerprint,
            warm_sandboxes.clock(),
            organization_id=used.organization_id,
        )
        self.in_progress.add(warm.sandbox_id)
        await warm_sandboxes.queries.add(warm)
        self.group.create_task(self._recycle(warm, make), name=f"recycle {warm.sandbox_id}")

    async def _recycle(self, warm: WarmSandbox, make: Make) -> None:
        with logging_errors(f"sandbox {warm.sandbox_id}: recycling"):
            try:
                url = await self.warm_sandboxes.offer(warm.sandbox_id, make)
                if url is not None:
                    await self.warm_sandboxes.put_by(warm.sandbox_id, url)
            except ChowderError as problem:
                log.info("sandbox %s: is not used again: %s", warm.sandbox_id, problem)
                await self.warm_sandboxes.discard(warm)
            finally:
                self.in_progress.discard(warm.sandbox_id)

    async def _clear_in_time(
        self, used: Instance, url: str, blank: bytes, cleared: Callable[[], None]
    ) -> str:
        """The address of the gateway, which is as blank as a new one. Raises ChowderError."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._clear(used, url, blank)
        except TimeoutError:
            raise GatewayUnavailable("it takes too long") from None
        cleared()
        log.info("sandbox %s: is blank again", used.sandbox_id)
        return url

    async def _clear(self, used: Instance, url: str, blank: bytes) -> None:
        agents = self.warm_sandboxes.agents
        gateway = agents.gateway_of(used.sandbox_id, url)
        if not await gateway.is_started():
            # A restore has drained it. Suspending again returns the suspension's id.
            await gateway.resume((await gateway.suspend(used.sandbox_id)).id)
        if used.clock is not None:
            # Without a seed.
            await gateway.set_clock(AgentClock())
        await self._clear_config(used, gateway)
        suspension = await gateway.suspend(used.sandbox_id)
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while not suspension.is_drained:
                    await asyncio.sleep(DRAIN_POLL_S)
                    suspension = await gateway.suspension(suspension.id)
        except TimeoutError:
            raise GatewayUnavailable("it goes on working") from None
        if has_foreign_process(await agents.engine.processes(used.sandbox_id)):
            raise GatewayUnavailable("it runs other programs")
        await self.file_programs.end_in(used.sandbox_id)
        async with self.warm_sandboxes.state_transfers.open(used.sandbox_id) as transfer:
            await transfer.unpack(iter([blank]))
            await transfer.clear()
        await gateway.resume(suspension.id)
        agents.drains.pop(used.sandbox_id, None)

    async def _clear_config(self, used: Instance, gateway: Gateway) -> None:
        blank = self.warm_sandboxes.agents.initial_configs.blank(used.sandbox_id)
        config = await gateway.call("config.get", {})
        patch = patch_to(
            untrusted_json.object_at(config, "sourceConfig"), untrusted_json.read_object(blank)
        )
        if patch and await gateway.patch_config(patch):
            raise GatewayUnavailable("its configuration needs a restart")


def patch_to(config: Mapping[str, Any], blank: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch from an agent's configuration to a blank one.

    Raises GatewayUnavailable if a gateway might keep something of what it removes.
    """
    # OpenClaw reads a configuration without agents as one with this.
    wanted = {**blank, "agents": {"entries": {"main": {}}, **blank.get("agents", {})}}
    patch = edits.merge_patch_between(
        edits.without_reserved(config), edits.without_reserved(wanted)
    )
    if kept := patch.keys() - READ_ON_DEMAND:
        raise GatewayUnavailable(f"its configuration has {min(kept)} of its own")
    return patch
