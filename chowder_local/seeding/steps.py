"""The steps that bring a server to what a seed file declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.seeding import marker
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.memory import KeptKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import ModelProvider, Tier
    from chowder_local.seeding.desired_state import DesiredInstance, DesiredKey
    from chowder_local.seeding.source_locations import Location
    from chowder_local.seeding.target import SeedTarget


@dataclass(frozen=True)
class Step(ABC):
    """One thing to do for an organization; `str()` describes it to a person."""

    organization: str
    location: Location
    """Where in the file it is declared."""
    description: str
    """What is done, with no secret in it."""

    def __str__(self) -> str:
        return f"{self.organization}: {self.description}"

    @abstractmethod
    def take(self, target: SeedTarget) -> None:
        """Does it, and remembers what later seedings must know. Raises ApiRefused, BootFailed."""


@dataclass(frozen=True)
class SignUp(Step):
    def take(self, target: SeedTarget) -> None:
        target.sign_up(self.organization)


@dataclass(frozen=True)
class Move(Step):
    """Moves the organization to another tier."""

    tier: Tier

    def take(self, target: SeedTarget) -> None:
        target.client(self.organization).move(self.tier)


@dataclass(frozen=True)
class SetModelKeys(Step):
    """Sets the model keys that are new or changed."""

    model_keys: Mapping[ModelProvider, str] = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        keys = {str(provider): key for provider, key in self.model_keys.items()}
        target.client(self.organization).set_model_keys(keys)
        kept = target.memory.organizations[self.organization]
        kept.model_keys |= {each: digest(key) for each, key in self.model_keys.items()}
        if self.organization == DEFAULT:
            kept.started_at = target.started_at()
        target.memory.write()


@dataclass(frozen=True)
class Create(Step):
    instance: DesiredInstance = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        made = target.client(self.organization).create_instance(
            self.instance.name, self.instance.model_provider, self.instance.openclaw_config or None
        )
        target.add_instance(self.organization, self.instance.name, made["id"])


@dataclass(frozen=True)
class Configure(Step):
    """Changes the configuration of an agent that is there."""

    instance: DesiredInstance = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance.name)
        agent.client.configure(agent.instance_id, self.instance.openclaw_config)


@dataclass(frozen=True)
class WriteFile(Step):
    """Writes a file that is new or has another content."""

    instance: str
    path: str
    content: bytes = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance)
        # An upload to a folder would go into it.
        agent.digest_of(self.path)
        agent.write(self.path, self.content)


@dataclass(frozen=True)
class Send(Step):
    """A message; `before` are the digests of those that its conversation was seeded with so far."""

    instance: str
    session: str | None
    model: str
    message: str = field(repr=False)
    before: tuple[str, ...] = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance)
        agent.client.respond(agent.instance_id, self.message, self.model, self.session)
        # After the answer: a message that broke off was not taken in by the agent.
        sent = marker.parse(agent.read(marker.PATH))
        sent[self.session] = (*self.before, digest(self.message))
        agent.write(marker.PATH, marker.serialize(sent))


@dataclass(frozen=True)
class MakeKey(Step):
    """A scoped key, in place of a former one of its name, if there is one."""

    key: DesiredKey
    former_id: str | None = None

    def take(self, target: SeedTarget) -> None:
        client = target.client(self.organization)
        ids = {target.instance_id(self.organization, name) for name in self.key.instances}
        permissions = sorted(set(self.key.permissions))
        made = client.create_key(self.key.name, sorted(ids), permissions, self.key.expires_at)
        kept = KeptKey(id=made["id"], raw_key=made["raw_key"])
        target.memory.organizations[self.organization].keys[self.key.name] = kept
        target.memory.write()
        if self.former_id is not None:
            client.revoke_key(self.former_id)
