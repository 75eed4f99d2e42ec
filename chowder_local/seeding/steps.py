"""The steps that bring a server to the state that a seed file declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.seeding import marker
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.memory import StoredKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import ModelProvider, Tier
    from chowder_local.seeding.desired_state import DesiredInstance, DesiredKey
    from chowder_local.seeding.source_locations import Location
    from chowder_local.seeding.target import SeedTarget


@dataclass(frozen=True)
class Step(ABC):
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
class SignUp(Step):
    def take(self, target: SeedTarget) -> None:
        target.sign_up(self.organization)


@dataclass(frozen=True)
class Move(Step):
    """Moves the organization to another tier."""

    tier: Tier

    def take(self, target: SeedTarget) -> None:
        target.client(self.organization).set_tier(self.tier)


@dataclass(frozen=True)
class SetModelKeys(Step):
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
class Create(Step):
    instance: DesiredInstance = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        instance = target.client(self.organization).create_instance(
            self.instance.name, self.instance.model_provider, self.instance.openclaw_config or None
        )
        target.add_instance(self.organization, self.instance.name, instance["id"])


@dataclass(frozen=True)
class Configure(Step):
    """Changes the configuration of an existing agent."""

    instance: DesiredInstance = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance.name)
        agent.client.configure(agent.instance_id, self.instance.openclaw_config)


@dataclass(frozen=True)
class WriteFile(Step):
    """Writes a file that is new or has other content."""

    instance: str
    path: str
    content: bytes = field(repr=False)

    def take(self, target: SeedTarget) -> None:
        agent = target.running_agent(self.organization, self.instance)
        # Refused for a folder: an upload would add a file to it.
        agent.digest_of(self.path)
        agent.write(self.path, self.content)


@dataclass(frozen=True)
class Send(Step):
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
        sent = marker.parse(agent.read(marker.PATH))
        sent[self.session] = (*self.before, digest(self.message))
        agent.write(marker.PATH, marker.serialize(sent))


@dataclass(frozen=True)
class MakeKey(Step):
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
        if self.former_id is not None:
            client.revoke_key(self.former_id)
