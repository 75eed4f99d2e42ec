"""From what is there and what is wanted to what is to be done (pure)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chowder_local.seeding.desired_state import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from chowder_local.core.domain import ModelProvider, Permission, Tier
    from chowder_local.seeding.desired_state import (
        WantedInstance,
        WantedKey,
        WantedOrganization,
        WantedSession,
        Way,
    )
    from chowder_local.seeding.source_locations import SourceLocations

    Removal = Callable[[str, str], str]


@dataclass(frozen=True)
class FoundInstance:
    """An agent of that name; `files` are digests of those that are wanted and there.

    `sent` are the digests of the messages that its conversations were seeded with.
    """

    id: str
    model_provider: ModelProvider
    openclaw_config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundKey:
    """A scoped key that an earlier seeding made and that still is good, by ids of instances."""

    id: str
    grants: Mapping[str, frozenset[Permission]]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class FoundOrganization:
    """An organization; `model_keys` are digests of what it was last seeded with and still has."""

    tier: Tier
    model_keys: Mapping[ModelProvider, str] = field(default_factory=dict)
    instances: Mapping[str, FoundInstance] = field(default_factory=dict)
    keys: Mapping[str, FoundKey] = field(default_factory=dict)


@dataclass(frozen=True)
class Step(ABC):
    """One thing to do for an organization; `str()` says it to a person."""

    organization: str
    way: Way
    """Where in the file it is wanted."""

    def __str__(self) -> str:
        return f"{self.organization}: {self.words}"

    @property
    @abstractmethod
    def words(self) -> str:
        """What is done, with no secret in it."""


@dataclass(frozen=True)
class SignUp(Step):
    """An organization of its own."""

    @property
    def words(self) -> str:
        """What is done."""
        return "sign up"


@dataclass(frozen=True)
class Move(Step):
    """To another tier."""

    tier: Tier

    @property
    def words(self) -> str:
        """What is done."""
        return f"move to {self.tier}"


@dataclass(frozen=True)
class SetModelKeys(Step):
    """Model keys that are new or others."""

    model_keys: Mapping[ModelProvider, str] = field(repr=False)

    @property
    def words(self) -> str:
        """What is done."""
        return f"set the model keys of {', '.join(self.model_keys)}"


@dataclass(frozen=True)
class Create(Step):
    """A new agent."""

    instance: WantedInstance = field(repr=False)

    @property
    def words(self) -> str:
        """What is done."""
        return f"create {self.instance.name}"


@dataclass(frozen=True)
class Configure(Step):
    """Another configuration of an agent that is there."""

    instance: WantedInstance = field(repr=False)

    @property
    def words(self) -> str:
        """What is done."""
        return f"configure {self.instance.name}"


@dataclass(frozen=True)
class WriteFile(Step):
    """A file that is new or has another content."""

    instance: str
    path: str
    content: bytes = field(repr=False)

    @property
    def words(self) -> str:
        """What is done."""
        return f"write {self.path} of {self.instance}"


@dataclass(frozen=True)
class Send(Step):
    """A message; `before` are the digests of those that its conversation was seeded with so far."""

    instance: str
    session: WantedSession = field(repr=False)
    message: str = field(repr=False)
    before: tuple[str, ...] = field(repr=False)

    @property
    def words(self) -> str:
        """What is done."""
        number, count = len(self.before) + 1, len(self.session.messages)
        where = self.session.name or "the main conversation"
        return f"send message {number} of {count} to {where} of {self.instance}"


@dataclass(frozen=True)
class MakeKey(Step):
    """A scoped key, in place of a former one of its name, if there is one."""

    key: WantedKey
    former_id: str | None = None

    @property
    def words(self) -> str:
        """What is done."""
        return f"{'make' if self.former_id is None else 'renew'} the key {self.key.name}"


def plan(
    wanted: Sequence[WantedOrganization],
    found: Mapping[str, FoundOrganization],
    places: SourceLocations,
    removal: Removal,
) -> list[Step]:
    """The steps in their order: agents are made first, and boot while the rest is done.

    `removal` gives a command that removes an organization's agent, by its id. Raises
    SettingsInvalid for what cannot be had without destroying something.
    """
    steps = [
        (phase, step)
        for each in wanted
        for phase, step in _of_organization(each, found.get(each.name), places, removal)
    ]
    return [step for _, step in sorted(steps, key=lambda one: one[0])]


def _of_organization(
    wanted: WantedOrganization,
    found: FoundOrganization | None,
    places: SourceLocations,
    removal: Removal,
) -> Iterator[tuple[int, Step]]:
    name = wanted.name
    if found is None:
        yield 0, SignUp(name, wanted.way)
    if wanted.tier is not None and (found is None or wanted.tier is not found.tier):
        yield 1, Move(name, (*wanted.way, "tier"), wanted.tier)
    known = found.model_keys if found else {}
    if keys := {p: key for p, key in wanted.model_keys.items() if known.get(p) != digest(key)}:
        yield 2, SetModelKeys(name, (*wanted.way, "model_keys"), keys)
    instances = found.instances if found else {}
    for each in wanted.instances:
        yield from _of_instance(name, each, instances.get(each.name), places, removal)
    ids = {one: instances[one].id for one in instances}
    for key in wanted.keys:
        former = found.keys.get(key.name) if found else None
        if former is None or not _is_as_wanted(former, key, ids):
            yield 7, MakeKey(name, key.way, key, former.id if former else None)


def _of_instance(
    organization: str,
    wanted: WantedInstance,
    found: FoundInstance | None,
    places: SourceLocations,
    removal: Removal,
) -> Iterator[tuple[int, Step]]:
    if found is None:
        yield 3, Create(organization, wanted.way, wanted)
    elif found.model_provider is not wanted.model_provider:
        places.wrong(
            (*wanted.way, "model_provider"),
            f"{wanted.name} is there with {found.model_provider}, which cannot be changed. Write "
            f"that, use another name, or remove it with: {removal(organization, found.id)}",
        )
    elif not has(found.openclaw_config, wanted.openclaw_config):
        yield 4, Configure(organization, (*wanted.way, "openclaw_config"), wanted)
    files = found.files if found else {}
    for path, content in wanted.files.items():
        if files.get(path) != digest(content):
            yield 5, WriteFile(organization, wanted.ways[path], wanted.name, path, content)
    for session in wanted.sessions:
        for step in _rest(organization, wanted.name, session, found, places, removal):
            yield 6, step


def _rest(
    organization: str,
    instance: str,
    session: WantedSession,
    found: FoundInstance | None,
    places: SourceLocations,
    removal: Removal,
) -> Iterator[Send]:
    """The messages that were not sent yet."""
    sent = found.sent.get(session.name, ()) if found else ()
    if found is not None and sent != session.digests[: len(sent)]:
        places.wrong(
            (*session.way, "messages"),
            f"{instance} was sent other messages there by an earlier seeding, which it cannot "
            "forget. Only add messages at the end, use another session name, or remove the agent "
            f"with: {removal(organization, found.id)}",
        )
    for index in range(len(sent), len(session.messages)):
        way = (*session.way, "messages", index)
        message, before = session.messages[index], session.digests[:index]
        yield Send(organization, way, instance, session, message, before)


def has(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a configuration has all that is wanted, and maybe more."""
    missing = object()
    for name, value in wanted.items():
        there = current.get(name, missing)
        if isinstance(value, dict) and isinstance(there, dict):
            if not has(there, value):
                return False
        # 1 is no true, though they are equal.
        elif there != value or type(there) is not type(value):
            return False
    return True


def _is_as_wanted(found: FoundKey, wanted: WantedKey, ids: Mapping[str, str]) -> bool:
    grants = {ids.get(name, ""): wanted.permissions for name in wanted.instances}
    return found.grants == grants and found.expires_at == wanted.expires_at
