"""The steps from the current to the desired state of a server: what each does, and the plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.client import NULL
from chowder_local.openclaw.config.agent_config import portable
from chowder_local.openclaw.config.edits import changed_paths
from chowder_local.openclaw.models import DEFAULT_MODELS
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.target import (
    MARKER,
    CurrentInstance,
    CurrentKey,
    CurrentOrganization,
    StoredKey,
    parse_marker,
    serialize_marker,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from chowder_local.core.domain import ModelProvider, Tier
    from chowder_local.seeding.desired_state import (
        DesiredBreakpoint,
        DesiredBudget,
        DesiredInstance,
        DesiredJob,
        DesiredKey,
        DesiredOrganization,
        DesiredPolicy,
        DesiredSession,
        Location,
    )
    from chowder_local.seeding.target import SeedTarget

    Removal = Callable[[str, str], str]


@dataclass(frozen=True)
class SeedStep(ABC):
    """One change of an organization; `str()` describes it for people."""

    organization: str
    location: Location
    """Where the file declares it."""
    description: str
    """The change, without secrets."""

    def __str__(self) -> str:
        return f"{self.organization}: {self.description}"

    @abstractmethod
    def take(self, target: SeedTarget) -> None:
        """Makes the change, and remembers it for later seedings.

        Raises ApiRefused if the server refuses it, and BootFailed if its agent does not run.
        """


@dataclass(frozen=True)
class SignUp(SeedStep):
    def take(self, target: SeedTarget) -> None:
        target.sign_up(self.organization)


@dataclass(frozen=True)
class Move(SeedStep):
    """Moves the organization to another tier."""

    tier: Tier

    def take(self, target: SeedTarget) -> None:
        target.client(self.organization).set_tier(self.tier)


@dataclass(frozen=True)
class SetModelKeys(SeedStep):
    """Sets the model keys that are new or changed."""

    model_keys: Mapping[ModelProvider, str] = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        keys = {str(provider): key for provider, key in self.model_keys.items()}
        target.client(self.organization).set_model_keys(keys)
        stored = target.memory.organizations[self.organization]
        stored.model_keys |= {each: digest(key) for each, key in self.model_keys.items()}
        if self.organization == DEFAULT:
            stored.started_at = target.started_at()
        target.memory.write()


@dataclass(frozen=True)
class SetBudget(SeedStep):
    """Sets the budget of the organization, or of an instance."""

    budget: DesiredBudget
    instance: str | None = None

    def take(self, target: SeedTarget) -> None:
        instance_id = self.instance and target.instance_id(self.organization, self.instance)
        limits = self.budget.model_dump(exclude_none=True)
        target.client(self.organization).set_budget(instance_id=instance_id, **limits)


@dataclass(frozen=True)
class SetApprovalPolicy(SeedStep):
    """Sets when an instance asks: last, so that no command of a seeded message waits."""

    policy: DesiredPolicy
    instance: str

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance)
        policy = self.policy.model_dump(mode="json", exclude_none=True)
        agent.client.set_approval_policy(agent.instance_id, **policy)


@dataclass(frozen=True)
class Create(SeedStep):
    instance: DesiredInstance = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        target.create(self.organization, self.instance)


@dataclass(frozen=True)
class Configure(SeedStep):
    """Changes the configuration of an existing agent."""

    instance: str
    change: Mapping[str, Any] = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance)
        agent.client.configure(agent.instance_id, self.change)


@dataclass(frozen=True)
class WriteFile(SeedStep):
    """Writes a file that is new or has other content."""

    instance: str
    path: str
    content: bytes | Path = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        target.running_agent(self.organization, self.instance).write(self.path, self.content)


@dataclass(frozen=True)
class Send(SeedStep):
    """Sends a message; `before` has the digests of the earlier messages of its session."""

    instance: str
    session: str | None
    model: str
    message: str = field(repr=False)
    before: tuple[str, ...] = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance)
        agent.client.respond(agent.instance_id, self.message, self.model, self.session)
        # After the answer, because a message without an answer must be sent again.
        sent = parse_marker(agent.read(MARKER))
        sent[self.session] = (*self.before, digest(self.message))
        agent.write(MARKER, serialize_marker(sent))


@dataclass(frozen=True)
class MakeJob(SeedStep):
    """Creates a scheduled job, or changes the one of its name."""

    instance: str
    job: DesiredJob = field(repr=False)
    former_id: str | None = None

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance)
        members = self.job.model_dump(mode="json", exclude_none=True)
        if self.former_id is None:
            agent.client.create_job(agent.instance_id, **members)
        else:
            gone = {each: NULL for each in ("session", "deliver") if each not in members}
            agent.client.update_job(agent.instance_id, self.former_id, **members, **gone)


@dataclass(frozen=True)
class SetBreakpoint(SeedStep):
    """Sets the breakpoint of an instance."""

    instance: str
    breakpoint: DesiredBreakpoint = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        instance_id = target.instance_id(self.organization, self.instance)
        setting = self.breakpoint.model_dump(mode="json", exclude_unset=True)
        target.client(self.organization).set_breakpoint(instance_id, **setting)


@dataclass(frozen=True)
class MakeKey(SeedStep):
    """Creates a scoped key, and revokes the former one of its name."""

    key: DesiredKey
    former_id: str | None = None

    def take(self, target: SeedTarget) -> None:
        client = target.client(self.organization)
        ids = {target.instance_id(self.organization, name) for name in self.key.instances}
        permissions = sorted(set(self.key.permissions))
        key = client.create_key(self.key.name, sorted(ids), permissions, self.key.expires_at)
        stored = StoredKey(id=key["id"], raw_key=key["raw_key"])
        target.memory.organizations[self.organization].keys[self.key.name] = stored
        target.memory.write()
        if self.former_id is not None and target.may_delete:
            client.revoke_key(self.former_id)


def plan(
    desired: Sequence[DesiredOrganization],
    current: Mapping[str, CurrentOrganization],
    removal: Removal,
    *,
    is_exact: bool = False,
    takes_homes: bool = False,
) -> list[SeedStep]:
    """The steps in order: agents are created early, and boot during the other steps.

    `removal` returns the command that removes an agent of an organization, by its id. If it
    `is_exact`, settings that the desired state lacks are removed. If the target `takes_homes`, new
    agents have their homes from the start. Raises SettingsInvalid if the desired state would need
    something else to be destroyed.
    """
    planner = _Planner(removal, is_exact, takes_homes)
    unordered = [
        step for each in desired for step in planner.organization(each, current.get(each.name))
    ]
    return sorted(unordered, key=lambda step: PHASES.index(type(step)))


@dataclass(frozen=True)
class _Planner:
    removal: Removal
    is_exact: bool
    takes_homes: bool

    def organization(
        self, desired: DesiredOrganization, existing: CurrentOrganization | None
    ) -> Iterator[SeedStep]:
        name, location = desired.name, desired.location
        current = existing or CurrentOrganization()
        if existing is None:
            yield SignUp(name, location, "sign up")
        if desired.tier is not None and desired.tier is not current.tier:
            where, tier = location / "tier", desired.tier
            yield Move(name, where, f"move to {tier}", tier)
        changed_keys = {
            provider: key
            for provider, key in desired.model_keys.items()
            if current.model_keys.get(provider) != digest(key)
        }
        if changed_keys:
            description = f"set the model keys of {', '.join(changed_keys)}"
            yield SetModelKeys(name, location / "model_keys", description, changed_keys)
        if desired.budget is not None and not desired.budget.has(current.budget):
            yield SetBudget(name, location / "budget", "set the budget", desired.budget)
        for instance in desired.instances:
            yield from self._instance(name, instance, current.instances.get(instance.name))
        ids = {instance_name: each.id for instance_name, each in current.instances.items()}
        for key in desired.keys:
            former = current.keys.get(key.name)
            if former is None or not _is_as_desired(former, key, ids):
                verb, former_id = ("renew", former.id) if former else ("make", None)
                description = f"{verb} the key {key.name}"
                yield MakeKey(name, key.location, description, key, former_id)

    def _instance(
        self, organization: str, desired: DesiredInstance, current: CurrentInstance | None
    ) -> Iterator[SeedStep]:
        location = desired.location
        if current is None:
            yield Create(organization, location, f"create {desired.name}", desired)
        elif current.model_provider is not desired.model_provider:
            (location / "model_provider").fail(
                f"{desired.name} exists with {current.model_provider}, which cannot be changed. "
                "Write that provider, use another name, or remove the agent with: "
                f"{self.removal(organization, current.id)}",
            )
        else:
            yield from self._configuring(organization, desired, current)
        budget = desired.budget
        if budget is not None and not budget.has(current.budget if current else None):
            description = f"set the budget of {desired.name}"
            where = location / "budget"
            yield SetBudget(organization, where, description, budget, desired.name)
        digests = current.files if current else {}
        given = desired.home if self.takes_homes and current is None else {}
        for path, (content, file_location) in desired.home_files().items():
            if content is not given.get(path) and digests.get(path) != digest(content):
                description = f"write {path} of {desired.name}"
                yield WriteFile(
                    organization, file_location, description, desired.name, path, content
                )
        for session in desired.sessions:
            yield from self._unsent(organization, desired, session, current)
        for job in desired.jobs:
            former = current.jobs.get(job.name) if current else None
            if former is None or not job.has(former):
                verb, former_id = ("change", former["id"]) if former else ("create", None)
                description = f"{verb} the job {job.name} of {desired.name}"
                yield MakeJob(organization, job.location, description, desired.name, job, former_id)
        policy = desired.approvals
        if policy is not None and not policy.has(current.approvals if current else None):
            description = f"set when {desired.name} asks for approvals"
            where = location / "approvals"
            yield SetApprovalPolicy(organization, where, description, policy, desired.name)
        wanted = desired.breakpoint
        if wanted is not None and not wanted.has(current.breakpoint if current else None):
            description = f"set the breakpoint of {desired.name}"
            where = location / "breakpoint"
            yield SetBreakpoint(organization, where, description, desired.name, wanted)

    def _configuring(
        self, organization: str, desired: DesiredInstance, current: CurrentInstance
    ) -> Iterator[SeedStep]:
        name, where = desired.name, desired.location / "openclaw_config"
        if not contains(current.openclaw_config, desired.openclaw_config):
            config = desired.openclaw_config
            yield Configure(organization, where, f"configure {name}", name, config)
        extra = without(portable(current.openclaw_config), desired.openclaw_config)
        if self.is_exact and extra:
            paths = ", ".join(changed_paths(extra))
            description = f"remove {paths} from the configuration of {name}"
            yield Configure(organization, where, description, name, extra)

    def _unsent(
        self,
        organization: str,
        instance: DesiredInstance,
        session: DesiredSession,
        current: CurrentInstance | None,
    ) -> Iterator[SeedStep]:
        """The steps for messages of a session that were not sent yet."""
        location = session.location / "messages"
        sent = current.sent.get(session.name, ()) if current else ()
        if current is not None and sent != session.digests[: len(sent)]:
            location.fail(
                f"An earlier seeding sent other messages to this session of {instance.name}. Add "
                "messages at the end only, use another session name, or remove the agent with: "
                f"{self.removal(organization, current.id)}",
            )
        model = session.model or DEFAULT_MODELS[instance.model_provider]
        conversation = session.name or "the main conversation"
        for index in range(len(sent), len(session.messages)):
            yield Send(
                organization,
                location / index,
                f"send message {index + 1} of {len(session.messages)} to {conversation} of "
                f"{instance.name}",
                instance.name,
                session.name,
                model,
                session.messages[index],
                session.digests[:index],
            )


def contains(current: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether a configuration has all desired values; it may have more."""
    missing = object()
    for name, value in desired.items():
        current_value = current.get(name, missing)
        if isinstance(value, dict) and isinstance(current_value, dict):
            if not contains(current_value, value):
                return False
        # In Python 1 equals True, but in JSON it does not.
        elif current_value != value or type(current_value) is not type(value):
            return False
    return True


def without(current: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that removes from a configuration what the desired one lacks.

    Value by value, because an object may have others that `current` does not show.
    """
    patch: dict[str, Any] = {}
    for name, value in current.items():
        wanted = desired.get(name, {})
        if isinstance(value, dict) and value:
            if isinstance(wanted, dict) and (below := without(value, wanted)):
                patch[name] = below
        elif name not in desired:
            patch[name] = None
    return patch


def _is_as_desired(current: CurrentKey, desired: DesiredKey, ids: Mapping[str, str]) -> bool:
    permissions = frozenset(desired.permissions)
    grants = {ids.get(name, ""): permissions for name in desired.instances}
    return current.grants == grants and current.expires_at == desired.expires_at


PHASES = (
    SignUp,
    Move,
    SetModelKeys,
    Create,
    SetBudget,
    Configure,
    WriteFile,
    Send,
    MakeJob,
    SetApprovalPolicy,
    MakeKey,
    # It would hold the messages of the file.
    SetBreakpoint,
)
