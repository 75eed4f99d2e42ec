"""Domain types: plain, frozen data classes and enumerations of the contract's terms."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RELEASE_PATTERN = r"([0-9]{4})\.([0-9]{1,2})\.([0-9]{1,3})(?:-([0-9a-z.]{1,20}))?"
_RELEASE = re.compile(RELEASE_PATTERN)


def is_release(text: str) -> bool:
    """Whether a text is the number of a release, such as 2026.9.6 or 2026.7.2-beta.1."""
    return _RELEASE.fullmatch(text) is not None


def release_order(release: str) -> tuple[int, int, int, bool, str]:
    """A key by which a newer release is greater. Raises ValueError for another text."""
    if (match := _RELEASE.fullmatch(release)) is None:
        raise ValueError(f"{release!r} is no release of OpenClaw.")
    year, month, patch, suffix = match.groups()
    # A suffix of digits is a later packing of the same release, others come before it.
    is_final = suffix is None or suffix.isdigit()
    return int(year), int(month), int(patch), is_final, suffix or ""


OrganizationId = NewType("OrganizationId", str)
InstanceId = NewType("InstanceId", str)
KeyId = NewType("KeyId", str)
SandboxId = NewType("SandboxId", str)
SnapshotId = NewType("SnapshotId", str)


class ModelProvider(StrEnum):
    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GEMINI = "gemini"


MAIN_SESSION = "main"
"""The name of the conversation that messages without a session go to."""

OTHER_PROVIDERS = "other"
"""The provider in a sandbox that stands for all other providers; the model's id has the name."""

GATEWAY_PORT = 18789
"""The gateway's port in a sandbox."""

RELAY_HOSTNAME = "relay.local"
"""The host name of the model relay in a sandbox.

OpenClaw treats models at `.local` names as slow ones, and sets no timeouts of its own.
"""

HOST_HOSTNAME = "host.local"
"""The host name of the engine's machine in a sandbox with egress."""

RELAY_PORT = 2470
"""The relay's default port. A server keeps the port that it chose at its first start."""

OFFLINE_KEY = "offline"
"""The model key value that sends a provider's calls to the built-in offline model."""

AGENT_MEMORY_BYTES = 1_300_000_000
"""Typical memory of an agent after some turns; the limit is a setting and higher."""


def agent_capacity(memory_bytes: int) -> int:
    """How many agents fit into the memory at once."""
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
    """A subscription tier, which limits the instances of an organization."""

    SHRIMP = "shrimp"
    CRAB = "crab"
    LOBSTER = "lobster"
    WHALE = "whale"

    @property
    def instance_limit(self) -> int | None:
        """The most instances that are not terminated; None is unlimited."""
        return {Tier.SHRIMP: 1, Tier.CRAB: 10, Tier.LOBSTER: 500, Tier.WHALE: None}[self]

    @property
    def is_paid(self) -> bool:
        """Whether the tier needs a subscription."""
        return self is not Tier.SHRIMP


class Permission(StrEnum):
    """A permission of a scoped key for an instance; none implies another."""

    READ = "read"
    INTERACT = "interact"
    CONFIGURE = "configure"
    FILES = "files"
    CHANNELS = "channels"


@dataclass(frozen=True)
class Organization:
    """The owner of instances, keys and model keys."""

    id: OrganizationId
    name: str
    tier: Tier
    created_at: datetime
    updated_at: datetime
    model_providers: tuple[ModelProvider, ...] = ()
    stripe_customer_id: str | None = None
    stripe_subscription_id: str | None = None
    reuses_sandboxes: bool = False
    """Whether its new instances may get the sandboxes of its deleted ones."""


@dataclass(frozen=True)
class ApiKey:
    """An API key without its token: what it may do, and until when."""

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
    """The permissions of a scoped key by instance; an organization key needs none."""

    def is_valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.is_active and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class Caller:
    """The sender of a request, identified by its key."""

    organization_id: OrganizationId
    key_id: KeyId
    is_organization_key: bool = True
    grants: Mapping[InstanceId, frozenset[Permission]] = field(default_factory=dict)

    def may(self, permission: Permission, instance_id: InstanceId) -> bool:
        """Whether the key has a permission for an instance of its organization."""
        return self.is_organization_key or permission in self.grants.get(instance_id, frozenset())


DEFAULT_VERSION = "v1"
"""The `openclaw_version` of an instance that follows the server's own; the hosted API's default."""


INTERVAL_SNAPSHOT_NAME = "taken at an interval"
"""The name of the snapshots of CHOWDER_SNAPSHOT_INTERVAL_S; a new one replaces the former."""

UPGRADE_SNAPSHOT_PREFIX = "before OpenClaw "
"""The names of the snapshots that upgrades take begin with it; the new release follows."""


LATEST_CLOCK_MS = 6_000_000_000_000
"""The latest time of an agent's clock, in the year 2160, and its largest offset: in nanoseconds,
the sum of two fits into 64 bits."""
LARGEST_SEED = 2**53 - 1
"""Every client's numbers have it."""


@dataclass(frozen=True)
class AgentClock:
    """The clock of an agent, where it was set: the machine's plus an offset, or standing still.

    A clock of zeros is the machine's, but the sandbox may have to be told so.
    """

    offset_ms: int = 0
    frozen_ms: int | None = None
    """The time at which it stands, since 1970; None if it goes on."""
    seed: int | None = None
    """What the agent's random ids follow from; None for random ones."""

    @property
    def is_of_the_machine(self) -> bool:
        """Whether its time is the machine's."""
        return not self.offset_ms and self.frozen_ms is None

    def at(self, machine_time: datetime) -> datetime:
        """The agent's time at a time of the machine."""
        if self.frozen_ms is not None:
            return datetime.fromtimestamp(self.frozen_ms / 1000, UTC)
        return machine_time + timedelta(milliseconds=self.offset_ms)


@dataclass(frozen=True)
class Instance:
    """An instance. Its `sandbox_id` is set with the row, before the sandbox exists."""

    id: InstanceId
    organization_id: OrganizationId
    name: str
    status: InstanceStatus
    sandbox_id: SandboxId
    created_at: datetime
    updated_at: datetime
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    sandbox_provider: str = "sandbox"
    openclaw_version: str = DEFAULT_VERSION
    """An exact OpenClaw release, or DEFAULT_VERSION."""
    openclaw_config: Mapping[str, Any] | None = None
    region: str | None = None
    error_message: str | None = None
    gateway_url: str | None = None
    first_ready_at: datetime | None = None
    """When it was first ready; until then its volume has nothing to keep."""
    egress: Egress | None = None
    """None means the server's setting."""
    origin_snapshot_id: SnapshotId | None = None
    """The snapshot from which its volume is made until it is first ready; None for a blank one."""
    may_hibernate: bool = True
    """Whether it may leave memory while it runs and nobody uses it."""
    clock: AgentClock | None = None
    """None if it was never set."""
    switched_off_jobs: frozenset[str] = frozenset()
    """The ids of its jobs that were on in its original, and that nobody has changed since."""

    @property
    def is_hibernated(self) -> bool:
        """Whether it runs without being in memory: its next use brings it back."""
        return self.status is InstanceStatus.RUNNING and self.gateway_url is None

    @property
    def has_home(self) -> bool:
        """Whether it has files and conversations: its own, or those of a snapshot."""
        return self.first_ready_at is not None or self.origin_snapshot_id is not None

    @property
    def is_in_memory(self) -> bool:
        """Whether it runs in a sandbox that takes turns."""
        return self.status is InstanceStatus.RUNNING and self.gateway_url is not None

    def log_start(self, since: datetime | None = None) -> datetime:
        """From when on its sandbox's log is its own: another instance may have had the sandbox."""
        return self.created_at if since is None else max(since, self.created_at)


@dataclass(frozen=True)
class Snapshot:
    """A copy of an instance at a moment; the archive with this id has its home."""

    id: SnapshotId
    organization_id: OrganizationId
    model_provider: ModelProvider
    created_at: datetime
    instance_id: InstanceId | None = None
    """The instance that was copied; None if the snapshot was imported."""
    name: str | None = None
    is_kept: bool = True
    """False for a temporary snapshot, which exists while an instance is made from it."""
    is_whole: bool = False
    """Whether its archive is complete. If not, it is being made or a crash left it."""
    size_bytes: int = 0
    egress: Egress | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    """The instance's `overrides`, `config`, `sessions`, `openclaw_version`, `clock` and
    `switched_off_jobs`."""

    @property
    def frozen_at(self) -> datetime:
        """When the agent was frozen: the snapshot has what was answered before."""
        frozen_at = self.content.get("frozen_at")
        return self.created_at if frozen_at is None else datetime.fromisoformat(frozen_at)

    @property
    def openclaw_version(self) -> str | None:
        """The instance's `openclaw_version` at that time; None if it is not known."""
        version = self.content.get("openclaw_version")
        return version if isinstance(version, str) else None

    @property
    def clock(self) -> AgentClock | None:
        """The instance's clock at that time."""
        clock = self.content.get("clock")
        return None if clock is None else AgentClock(**clock)

    @property
    def switched_off_jobs(self) -> frozenset[str]:
        """Those of the instance at that time."""
        return frozenset(self.content.get("switched_off_jobs") or ())


MAX_USD = 1e9
"""The most that a setting may name."""


@dataclass(frozen=True)
class WarmSandbox:
    """A blank sandbox that waits for an instance; `fingerprint` identifies its configuration.

    One that was another instance's before is for the instances of that one's organization alone.
    """

    sandbox_id: SandboxId
    fingerprint: str
    created_at: datetime
    gateway_url: str | None = None
    """None until the sandbox may be claimed."""
    organization_id: OrganizationId | None = None


class SandboxState(StrEnum):
    """The state of a sandbox's container."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    """On a node that does not answer; it may run there."""


@dataclass(frozen=True)
class SandboxSpec:
    """How to make a sandbox; `files` are written to its volume (path below the home → content)."""

    id: SandboxId
    files: Mapping[str, bytes] = field(default_factory=dict)
    is_warm: bool = False
    """A warm sandbox has a low priority until it is promoted or parked: no client waits for it."""
    egress: Egress = Egress.ON
    home: Path | None = None
    """An archive of a home, which is extracted to the volume before `files` are written."""
    openclaw_version: str = DEFAULT_VERSION


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox's state on the engine; `gateway_url` is reachable while the sandbox runs."""

    id: SandboxId
    state: SandboxState
    gateway_url: str | None = None
    exit_code: int | None = None
    is_oom_killed: bool = False
    memory_limit_mb: int | None = None
    """None if it has none, or if only a list of sandboxes was read."""
    is_signalled: bool = False
    """Whether it exited after a signal that was sent through the engine."""
    egress: Egress = Egress.ON
    is_confined: bool = True
    """False if only firewall rules confine it and another program started it."""


@dataclass(frozen=True)
class EngineMemory:
    """Memory of the engine's machine; `available_bytes` is None if it cannot be measured."""

    total_bytes: int
    available_bytes: int | None = None


@dataclass(frozen=True)
class EngineNode:
    """A machine of several that sandboxes run on; only a *linked* one answers.

    A drained one takes no new sandboxes; `available_bytes` is None if it is not known. `problem`
    is why it is not linked, or how much of the sandbox image it has got.
    """

    name: str
    is_linked: bool
    is_drained: bool
    sandboxes: int
    memory_bytes: int
    available_bytes: int | None
    problem: str | None = None


@dataclass(frozen=True)
class SandboxUsage:
    """Resources that a running sandbox uses; `cpu_s` is its processor time since its start."""

    memory_bytes: int
    memory_limit_bytes: int
    cpu_s: float
    at_s: float
    """The time of the measurement on the monotonic clock."""
