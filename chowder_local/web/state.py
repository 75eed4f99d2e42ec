"""What handlers reach through a request: the services that the lifespan opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from chowder_local import correlation
from chowder_local.domain import InstanceStatus
from chowder_local.errors.requests import InstanceStateWrong

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.accounts.authentication import Authentication
    from chowder_local.accounts.keys import Keys
    from chowder_local.accounts.organizations import Organizations
    from chowder_local.accounts.spending import Spending
    from chowder_local.accounts.subscriptions import Subscriptions
    from chowder_local.domain import Caller, Instance
    from chowder_local.events import Events
    from chowder_local.faults import Faults
    from chowder_local.instances.boots import Boots
    from chowder_local.instances.config_editing import ConfigEditing
    from chowder_local.instances.conversations import Conversations
    from chowder_local.instances.egress import EgressChanges
    from chowder_local.instances.exports import Exports
    from chowder_local.instances.forks import Forks
    from chowder_local.instances.health import Health
    from chowder_local.instances.idempotency import IdempotentMessages
    from chowder_local.instances.lifecycle import Lifecycle
    from chowder_local.instances.ports import Engine
    from chowder_local.instances.reading import Reading
    from chowder_local.instances.resets import Resets
    from chowder_local.instances.session_names import SessionNames
    from chowder_local.instances.snapshots import Snapshots
    from chowder_local.metrics import Metrics
    from chowder_local.openclaw.channels import Channels
    from chowder_local.openclaw.files import Files
    from chowder_local.openclaw.skills import Skills
    from chowder_local.relay.exchanges import Exchanges
    from chowder_local.relay.recordings.in_force import Recordings
    from chowder_local.relay.replies.scripts import Scripts
    from chowder_local.stopping import Stopping
    from chowder_local.tokens import Vault
    from chowder_local.web.budget import Budget
    from chowder_local.web.dashboard.state import Dashboard


@dataclass(frozen=True)
class Services:
    """Everything a handler may call."""

    organizations: Organizations
    authentication: Authentication
    keys: Keys
    subscriptions: Subscriptions
    spending: Spending
    lifecycle: Lifecycle
    egress: EgressChanges
    snapshots: Snapshots
    forks: Forks
    exports: Exports
    boots: Boots
    conversations: Conversations
    idempotency: IdempotentMessages
    reading: Reading
    files: Files
    skills: Skills
    channels: Channels
    config_editing: ConfigEditing
    engine: Engine
    health: Health
    scripts: Scripts
    recordings: Recordings
    exchanges: Exchanges
    session_names: SessionNames
    events: Events
    faults: Faults
    resets: Resets
    metrics: Metrics
    dashboard: Dashboard
    vault: Vault
    stopping: Stopping
    max_body_bytes: int
    budget: Budget


def services(request: Request) -> Services:
    """The services of the server that the request came to."""
    return cast("Services", request.scope["state"]["services"])


def caller(request: Request) -> Caller:
    """Who makes the request; only there behind a route that needs a key."""
    return cast("Caller", request.scope["state"]["caller"])


def instance(request: Request) -> Instance:
    """The instance that the path names; only there behind a route that needs a permission."""
    return cast("Instance", request.scope["state"]["instance"])


def running_instance(request: Request) -> Instance:
    """The same, if its agent can be asked something now. Raises InstanceStateWrong."""
    return running(instance(request))


def running(found: Instance) -> Instance:
    """The same instance, if it runs. Raises InstanceStateWrong."""
    if found.status is not InstanceStatus.RUNNING:
        raise InstanceStateWrong(found.status, InstanceStatus.RUNNING)
    return found


async def instance_of(request: Request) -> Instance:
    """The instance that the path names, for a caller with an organization key.

    From now on the log tells that the request is about it. Raises InstanceNotFound.
    """
    found = await services(request).lifecycle.instance(
        caller(request).organization_id, request.path_params["instance_id"]
    )
    correlation.of_instance(found.id)
    return found
