"""What a user does with an instance: create, look, change, stop, start, delete."""

from __future__ import annotations

import logging
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import request_context
from chowder_local.core.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    SandboxId,
    SandboxState,
)
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import (
    BootFailed,
    DiskFull,
    EngineSilent,
    EngineUnavailable,
    HostFull,
    ImageMissing,
)
from chowder_local.core.events import EventType
from chowder_local.openclaw.config import agent_config

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from datetime import datetime

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import Caller, OrganizationId
    from chowder_local.core.events import Events
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.instances.configuration.live_config import LiveConfig
    from chowder_local.instances.configuration.validator import ConfigValidator
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.drain import Drain
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.readiness import Readiness
    from chowder_local.instances.warm_pool.pool import Pool
    from chowder_local.relay.recordings.registry import RecordingRegistry
    from chowder_local.relay.scripts.registry import ScriptRegistry
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InstanceDraft:
    """What a user asks for."""

    name: str
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    sandbox_provider: str = "sandbox"
    openclaw_version: str = "v1"
    openclaw_config: Mapping[str, Any] | None = None
    region: str | None = None


@dataclass(frozen=True)
class Reconfigured:
    """An instance that was changed; `has_restarted` if its gateway restarted itself for that."""

    instance: Instance
    has_restarted: bool


class Lifecycle:
    """Moves instances between their states; one move at a time for each instance."""

    def __init__(
        self,
        *,
        instances: InstanceQueries,
        organizations: Organizations,
        engine: Engine,
        provisioner: Provisioner,
        pool: Pool,
        readiness: Readiness,
        live_config: LiveConfig,
        config_validator: ConfigValidator,
        locks: KeyedLocks,
        drain: Drain,
        egress: EgressRule,
        events: Events,
        scripts: ScriptRegistry,
        recordings: RecordingRegistry,
        clock: Callable[[], datetime],
    ) -> None:
        self._instances = instances
        self._organizations = organizations
        self._engine = engine
        self._provisioner = provisioner
        self._pool = pool
        self._readiness = readiness
        self._live_config = live_config
        self._config_validator = config_validator
        self._locks = locks
        self._drain = drain
        self._egress = egress
        self._events = events
        self._scripts = scripts
        self._recordings = recordings
        self._clock = clock

    async def create(self, organization_id: OrganizationId, draft: InstanceDraft) -> Instance:
        """A new instance, `provisioning`. Raises InstanceLimitReached, ConfigRefused."""
        await self.check(draft)
        organization = (await self._organizations.details(organization_id)).organization
        has_key = draft.model_provider in organization.model_providers
        can_run = has_key and not self._provisioner.is_to_fail(organization_id)
        now = self._clock()
        instance = Instance(
            id=InstanceId(str(uuid.uuid4())),
            organization_id=organization_id,
            status=InstanceStatus.PROVISIONING,
            sandbox_id=SandboxId(f"chowder-{secrets.token_hex(6)}"),
            created_at=now,
            updated_at=now,
            **vars(draft),
        )
        request_context.of_instance(instance.id)
        async with self._pool.offer() as offered:
            instance, spare = await self._instances.add(
                instance,
                organization.tier.instance_limit,
                # Else it comes to nothing, and a spare would be lost on it.
                likeness=self._pool.likeness if can_run else None,
                offered=offered,
            )
        self._provisioner.begin(instance, spare)
        if spare is not None:
            self._pool.claimed()
        return instance

    async def check(self, draft: InstanceDraft) -> None:
        """Raises ConfigRefused for what nobody could be given."""
        await self.check_config(draft.openclaw_config or {})

    async def check_config(self, overrides: Mapping[str, Any]) -> None:
        """Raises ConfigRefused for overrides that no agent could be given."""
        await self._config_validator.check(agent_config.to_merge_patch(overrides))

    async def instance(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """One of the organization's instances. Raises InstanceNotFound, for others' ones too."""
        instance = await self._instances.get(InstanceId(instance_id))
        if instance is None or instance.organization_id != organization_id:
            raise InstanceNotFound
        return instance

    def all(self, caller: Caller) -> AsyncGenerator[list[Instance]]:
        """The instances that a key is for and that are not terminated, oldest first, in pages."""
        if caller.is_organization_key:
            return self._instances.of_organization(caller.organization_id)
        return self._instances.of_key(caller.key_id)

    async def search(
        self,
        organization_id: OrganizationId,
        *,
        text: str = "",
        status: InstanceStatus | None = None,
        after_id: str | None = None,
        limit: int,
    ) -> list[Instance]:
        """Some of an organization's instances, newest first, as people look for them.

        Raises InstanceNotFound if that after which to go on is not there.
        """
        after = None if after_id is None else await self.instance(organization_id, after_id)
        return await self._instances.search(
            organization_id, text=text, status=status, after=after, limit=limit
        )

    async def counts(self, organization_id: OrganizationId) -> dict[InstanceStatus, int]:
        """How many instances an organization has in each status."""
        return await self._instances.counts(organization_id)

    async def change(
        self,
        organization_id: OrganizationId,
        instance_id: str,
        *,
        name: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Instance:
        """Renames, and lays configuration overrides over those in force.

        The agent's own configuration is changed first: what OpenClaw refuses changes nothing.
        Raises InstanceNotFound, InstanceStateWrong, ConfigRefused.
        """
        return (await self.reconfigure(organization_id, instance_id, name, overrides)).instance

    async def reconfigure(
        self,
        organization_id: OrganizationId,
        instance_id: str,
        name: str | None,
        overrides: Mapping[str, Any] | None,
    ) -> Reconfigured:
        """Does what `change` does, and tells what it took."""
        instance = await self._begun(organization_id, instance_id)
        has_restarted = False
        async with self._locks.holding(instance.id):
            instance = await self.instance(organization_id, instance_id)
            fields: dict[str, Any] = {} if name is None else {"name": name}
            if overrides:
                has_restarted = await self._configure(
                    instance, agent_config.to_merge_patch(overrides)
                )
                fields["openclaw_config"] = agent_config.apply_change(
                    instance.openclaw_config, overrides, instance.model_provider
                )
            if instance.status is InstanceStatus.TERMINATED:
                raise InstanceStateWrong(instance.status, "alive")
            changed = await self._instances.change(instance.id, now=self._clock(), **fields)
        if changed is None:
            raise InstanceNotFound
        return Reconfigured(changed, has_restarted)

    async def stop(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Freezes a running instance once its turn has ended, or the wait for that is over."""
        instance = await self._begun(organization_id, instance_id)
        async with self._locks.holding(instance.id):
            instance = await self._in_status(instance, InstanceStatus.RUNNING)
            await self._drain.drain(instance, instance.gateway_url)
            try:
                sandbox = await self._engine.inspect(instance.sandbox_id)
                # A sandbox that has died is stopped already; `start` boots it from its volume.
                if sandbox.state is SandboxState.RUNNING:
                    await self._engine.pause(instance.sandbox_id)
            except ChowderError:
                await self._drain.lift(instance)
                raise
            return await self._move(instance, InstanceStatus.STOPPED)

    async def start(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Lets a stopped instance go on where it was; it takes turns when this returns."""
        instance = await self._begun(organization_id, instance_id)
        async with self._locks.holding(instance.id):
            instance = await self._in_status(instance, InstanceStatus.STOPPED)
            try:
                gateway_url = await self._wake(instance)
            except (EngineUnavailable, HostFull, ImageMissing, DiskFull):
                # It may be started once the engine is back or has what it needs; nothing is lost.
                raise
            except ChowderError as failure:
                await self._move(instance, InstanceStatus.ERROR, error_message=str(failure))
                raise
            return await self._move(instance, InstanceStatus.RUNNING, gateway_url=gateway_url)

    async def delete(self, organization_id: OrganizationId, instance_id: str) -> None:
        """Destroys the sandbox with its data; the row stays as `terminated`.

        While the engine does not answer, nobody reaches the agent any more, nor does it reach a
        model; the reconciler destroys it as soon as the engine is back.
        """
        instance = await self._begun(organization_id, instance_id)
        async with self._locks.holding(instance.id):
            await self._provisioner.abandon(instance.id)
            # The row first: should we die before the sandbox is gone, the reconciler goes on.
            await self._instances.change(
                instance.id, now=self._clock(), status=InstanceStatus.TERMINATED, gateway_url=None
            )
            self._drain.forget(instance.sandbox_id)
            self._scripts.remove(instance.id)
            self._recordings.remove(instance.id)
            try:
                await self._engine.remove(instance.sandbox_id)
            except EngineSilent as silent:
                # Asking again would do no more than the reconciler does unasked.
                log.warning(
                    "instance %s: deleted, but its sandbox not yet: %s", instance.id, silent
                )
            else:
                log.info("instance %s: deleted with sandbox %s", instance.id, instance.sandbox_id)

    async def _begun(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """The instance that something is done with from now on, as the log tells."""
        instance = await self.instance(organization_id, instance_id)
        request_context.of_instance(instance.id)
        return instance

    async def _in_status(self, instance: Instance, wanted: InstanceStatus) -> Instance:
        """The instance as it is now that we hold its lock."""
        current = await self.instance(instance.organization_id, instance.id)
        if current.status is not wanted:
            raise InstanceStateWrong(current.status, wanted)
        return current

    async def _move(self, instance: Instance, status: InstanceStatus, **fields: Any) -> Instance:
        changed = await self._instances.change(
            instance.id, only_from={instance.status}, now=self._clock(), status=status, **fields
        )
        if changed is None:
            current = await self.instance(instance.organization_id, instance.id)
            raise InstanceStateWrong(current.status, instance.status)
        log.info("instance %s: %s", instance.id, status)
        return changed

    async def _configure(self, instance: Instance, patch: Mapping[str, Any]) -> bool:
        if instance.status is InstanceStatus.RUNNING:
            return await self._live_config.change(instance, instance.gateway_url, patch)
        if instance.status is InstanceStatus.STOPPED:
            # Only the agent itself can judge a configuration, so it is woken for that.
            url = await self._wake(instance)
            try:
                return await self._live_config.change(instance, url, patch)
            finally:
                await self._drain.drain(instance, url)
                await self._engine.pause(instance.sandbox_id)
        raise InstanceStateWrong(instance.status, "running or stopped")

    async def _wake(self, instance: Instance) -> str:
        sandbox = await self._engine.inspect(instance.sandbox_id)
        if not self._egress.fits(instance, sandbox):
            # Frozen where it must not go on; a container's networks are chosen when it is made.
            return await self._provisioner.boot(instance)
        if sandbox.state is SandboxState.PAUSED:
            await self._engine.unpause(instance.sandbox_id)
            self._events.publish(
                EventType.SANDBOX_WOKEN,
                instance.organization_id,
                instance.id,
                sandbox_id=instance.sandbox_id,
            )
            sandbox = await self._engine.inspect(instance.sandbox_id)
        if sandbox.state is SandboxState.RUNNING:
            try:
                await self._drain.end(instance, sandbox.gateway_url)
                return await self._readiness.wait(sandbox)
            except (GatewayUnavailable, RpcRefused, BootFailed) as reason:
                log.warning("instance %s: did not wake, is booted anew: %s", instance.id, reason)
        # It died, or the host or the engine was restarted: all but its memory is on the volume.
        return await self._provisioner.boot(instance)
