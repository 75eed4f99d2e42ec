"""The contract's terms as plain, frozen types; everything above may use them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

OrganizationId = NewType("OrganizationId", str)
InstanceId = NewType("InstanceId", str)
KeyId = NewType("KeyId", str)
SandboxId = NewType("SandboxId", str)
SnapshotId = NewType("SnapshotId", str)


class ModelProvider(StrEnum):
    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GEMINI = "gemini"


OTHER_PROVIDERS = "other"
"""A sandbox's name for all providers that the operator named; a model's id says which one."""

GATEWAY_PORT = 18789
"""Where the gateway listens inside a sandbox."""

RELAY_HOSTNAME = "relay.local"
"""A sandbox's name for the host that the model relay is on.

OpenClaw expects a model below `.local` to be slow, and leaves timeouts to us.
"""

FORMER_RELAY_HOSTNAME = "relay.internal"
"""The name that older agents know."""

RELAY_PORT = 2470
"""Where the relay listens at first, unless it is taken; a server then keeps the port it had."""

OFFLINE_KEY = "offline"
"""The model key value that sends a provider's calls to the built-in offline model."""

AGENT_MEMORY_BYTES = 1_300_000_000
"""What an agent takes after some turns; its limit is a setting and higher."""


def places_in(memory_bytes: int) -> int:
    """How many agents can be in so much memory at once."""
    return memory_bytes // AGENT_MEMORY_BYTES


class Egress(StrEnum):
    """Whether a sandbox reaches the outside, or only the model relay."""

    ON = "on"
    OFF = "off"


class InstanceStatus(StrEnum):
    """`provisioning → running ⇄ stopped`, `error`, `terminated`."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"
    TERMINATED = "terminated"


class Tier(StrEnum):
    """A subscription, which bounds how many instances an organization may have."""

    SHRIMP = "shrimp"
    CRAB = "crab"
    LOBSTER = "lobster"
    WHALE = "whale"

    @property
    def instance_limit(self) -> int | None:
        """How many instances that are not terminated it allows; None is unlimited."""
        return {Tier.SHRIMP: 1, Tier.CRAB: 10, Tier.LOBSTER: 500, Tier.WHALE: None}[self]

    @property
    def is_paid(self) -> bool:
        """Whether it needs a subscription; the tier of a signup does not."""
        return self is not Tier.SHRIMP


class Permission(StrEnum):
    """What a scoped key may do with an instance; none implies another."""

    READ = "read"
    INTERACT = "interact"
    CONFIGURE = "configure"
    FILES = "files"
    CHANNELS = "channels"


@dataclass(frozen=True)
class Organization:
    """Who owns instances, keys and model keys."""

    id: OrganizationId
    name: str
    tier: Tier
    created_at: datetime
    updated_at: datetime
    model_providers: tuple[ModelProvider, ...] = ()
    stripe_customer_id: str | None = None
    stripe_subscription_id: str | None = None


@dataclass(frozen=True)
class ApiKey:
    """A bearer token as the store knows it: never the token, only what it may do."""

    id: KeyId
    organization_id: OrganizationId
    name: str
    prefix: str
    created_at: datetime
    is_active: bool = True
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    is_organization_key: bool = True
    grants: Mapping[InstanceId, frozenset[Permission]] = field(default_factory=dict)
    """What a scoped key may do with which instances; an organization key needs none."""

    def is_good(self, now: datetime) -> bool:
        """Whether it opens anything: neither revoked nor expired."""
        return self.is_active and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class Caller:
    """Who makes a request, known by its key."""

    organization_id: OrganizationId
    key_id: KeyId
    is_organization_key: bool = True
    grants: Mapping[InstanceId, frozenset[Permission]] = field(default_factory=dict)

    def may(self, permission: Permission, instance_id: InstanceId) -> bool:
        """Whether the key has a permission for an instance of its organization."""
        return self.is_organization_key or permission in self.grants.get(instance_id, frozenset())


@dataclass(frozen=True)
class Instance:
    """An agent that a user has; `sandbox_id` is decided with the row, before the sandbox exists."""

    id: InstanceId
    organization_id: OrganizationId
    name: str
    status: InstanceStatus
    model_provider: ModelProvider
    sandbox_id: SandboxId
    created_at: datetime
    updated_at: datetime
    sandbox_provider: str = "sandbox"
    openclaw_version: str = "v1"
    openclaw_config: Mapping[str, Any] | None = None
    region: str | None = None
    error_message: str | None = None
    gateway_url: str | None = None
    first_ready_at: datetime | None = None
    """When it was first ready; until then its volume holds nothing that must be kept."""
    egress: Egress | None = None
    """None follows the server's own setting."""
    origin_snapshot_id: SnapshotId | None = None
    """What its volume is made from until it was ready once; None is a blank one."""


@dataclass(frozen=True)
class Snapshot:
    """An agent as it was at a moment; its home is in an archive of that id."""

    id: SnapshotId
    organization_id: OrganizationId
    model_provider: ModelProvider
    created_at: datetime
    instance_id: InstanceId | None = None
    """The instance that it was made of; None if it came from another machine."""
    name: str | None = None
    is_kept: bool = True
    """False for one that only lives for as long as an instance is made of it."""
    is_whole: bool = False
    """Whether its archive is complete; else it is being made, or a crash left it."""
    size_bytes: int = 0
    egress: Egress | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    """What else an agent is: `overrides`, `config` and `sessions`."""


@dataclass(frozen=True)
class WarmSandbox:
    """A blank sandbox that waits for an instance; `fingerprint` identifies what it is made of."""

    sandbox_id: SandboxId
    fingerprint: str
    created_at: datetime
    gateway_url: str | None = None
    """Set once it may be claimed; None while it is being made."""


class SandboxState(StrEnum):
    """The state of a sandbox's container."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    MISSING = "missing"


@dataclass(frozen=True)
class SandboxSpec:
    """What a sandbox is made of; `files` are put on its volume (path below the home → content)."""

    id: SandboxId
    files: Mapping[str, bytes] = field(default_factory=dict)
    is_warm: bool = False
    """A warm sandbox yields to others until it is promoted or parked: no client waits for it."""
    egress: Egress = Egress.ON
    home: Path | None = None
    """An archive of a whole home, which is put on the volume before the files are."""


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as seen on the engine; `gateway_url` is reachable from the host while it runs."""

    id: SandboxId
    state: SandboxState
    gateway_url: str | None = None
    exit_code: int | None = None
    is_oom_killed: bool = False
    is_signalled: bool = False
    """Whether it has exited after a signal that was sent through the engine."""
    egress: Egress = Egress.ON
    is_confined: bool = True
    """False for one that only firewall rules confine, and that was not started by us."""


@dataclass(frozen=True)
class EngineMemory:
    """What the engine's machine has; `available_bytes` is None where it cannot be seen."""

    total_bytes: int
    available_bytes: int | None = None


@dataclass(frozen=True)
class SandboxUsage:
    """What a running sandbox takes; `cpu_s` is what it has had of processors in all its life."""

    memory_bytes: int
    memory_limit_bytes: int
    cpu_s: float
    at_s: float
    """When that was so, by the monotonic clock."""
