"""The services that the lifespan opened, as handlers reach them through a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from chowder_local.core import request_context
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceStateWrong

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from starlette.requests import Request

    from chowder_local.accounts.authentication import Authentication
    from chowder_local.accounts.cost_report import CostReports
    from chowder_local.accounts.keys import Keys
    from chowder_local.accounts.organizations import Organizations
    from chowder_local.accounts.subscriptions import Subscriptions
    from chowder_local.core.domain import Caller, Instance
    from chowder_local.core.events import Events
    from chowder_local.core.fault_injection import Faults
    from chowder_local.core.metrics import Metrics
    from chowder_local.core.secrets import SecretBox
    from chowder_local.core.shutdown import Shutdown
    from chowder_local.instances.configuration.editing import ConfigEditing
    from chowder_local.instances.configuration.reconfiguration import Reconfiguration
    from chowder_local.instances.conversations.idempotency import IdempotentMessages
    from chowder_local.instances.conversations.service import Conversations
    from chowder_local.instances.conversations.session_names import SessionNames
    from chowder_local.instances.conversations.trace_log import TraceLog
    from chowder_local.instances.conversations.transcripts import ConversationReader
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.boot_queue import BootQueue
    from chowder_local.instances.lifecycle.creation import InstanceCreation
    from chowder_local.instances.lifecycle.egress_changes import EgressChanges
    from chowder_local.instances.lifecycle.in_memory import InMemory
    from chowder_local.instances.lifecycle.organization_reset import OrganizationReset
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.service import Lifecycle
    from chowder_local.instances.monitoring.health import Health
    from chowder_local.instances.snapshots.exports import Exports
    from chowder_local.instances.snapshots.forks import Forks
    from chowder_local.instances.snapshots.restores import Restores
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.snapshots.upgrade_checks import UpgradeChecks
    from chowder_local.instances.snapshots.upgrades import Upgrades
    from chowder_local.openclaw.channels import Channels
    from chowder_local.openclaw.files import Files
    from chowder_local.openclaw.skills import Skills
    from chowder_local.relay.call_log import CallLog
    from chowder_local.relay.recordings.registry import RecordingRegistry
    from chowder_local.relay.scripts.registry import ScriptRegistry


@dataclass(frozen=True)
class Services:
    """Everything a handler may call."""

    organizations: Organizations
    authentication: Authentication
    keys: Keys
    subscriptions: Subscriptions
    cost_reports: CostReports
    directory: InstanceDirectory
    creation: InstanceCreation
    lifecycle: Lifecycle
    reconfiguration: Reconfiguration
    egress: EgressChanges
    snapshots: Snapshots
    forks: Forks
    restores: Restores
    exports: Exports
    upgrades: Upgrades
    upgrade_checks: UpgradeChecks
    provisioner: Provisioner
    boot_queue: BootQueue
    conversations: Conversations
    idempotency: IdempotentMessages
    conversation_reader: ConversationReader
    files: Files
    skills: Skills
    channels: Channels
    config_editing: ConfigEditing
    engine: Engine
    in_memory: InMemory
    health: Health
    scripts: ScriptRegistry
    recordings: RecordingRegistry
    exchanges: CallLog
    traces: TraceLog
    session_names: SessionNames
    events: Events
    faults: Faults
    organization_reset: OrganizationReset
    metrics: Metrics
    box: SecretBox
    shutdown: Shutdown
    max_body_bytes: int


def services(request: Request) -> Services:
    return cast("Services", request.scope["state"]["services"])


def caller(request: Request) -> Caller:
    """The request's caller; only set on routes that need a key."""
    return cast("Caller", request.scope["state"]["caller"])


def instance(request: Request) -> Instance:
    """The instance that the path names; only set on routes that need a permission."""
    return cast("Instance", request.scope["state"]["instance"])


def exits(request: Request) -> AsyncExitStack:
    """Closes what a handler enters, once the response is sent."""
    return cast("AsyncExitStack", request.scope["state"]["exits"])


def require_running(instance: Instance) -> None:
    """Raises InstanceStateWrong if the instance does not run."""
    if instance.status is not InstanceStatus.RUNNING:
        raise InstanceStateWrong(instance.status, InstanceStatus.RUNNING, instance.error_message)


async def running_instance(request: Request) -> Instance:
    """The instance that the path names, as `running`."""
    return await running(request, instance(request))


async def running(request: Request, instance: Instance) -> Instance:
    """The instance, held in memory until the response is sent.

    Raises InstanceStateWrong if it does not run, and what brings a hibernated one back raises.
    """
    using = services(request).in_memory.using(instance)
    return await exits(request).enter_async_context(using)


async def running_instance_of(request: Request) -> Instance:
    """As `instance_of`, and `running`."""
    return await running(request, await instance_of(request))


async def instance_of(request: Request) -> Instance:
    """The instance that the path names, for a caller with an organization key.

    Adds its id to the request's log lines. Raises InstanceNotFound if the organization has none.
    """
    instance = await services(request).directory.get(
        caller(request).organization_id, request.path_params["instance_id"]
    )
    request_context.set_instance(instance.id)
    return instance
