"""What a seed file wants, with everything read that it refers to: files, folders, variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.models import DEFAULT_MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from chowder_local.core.domain import Permission, Tier
    from chowder_local.seeding.document import Document, InstanceGiven, OrganizationGiven
    from chowder_local.seeding.source_locations import Part, SourceLocations

    Way = tuple[Part, ...]

OFFLINE = "offline"


@dataclass(frozen=True)
class WantedSession:
    """Messages that are to be sent once; `name` is None for the main conversation."""

    way: Way
    name: str | None
    model: str
    messages: tuple[str, ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """The messages as an agent's marker has them."""
        return tuple(map(digest, self.messages))


@dataclass(frozen=True)
class WantedInstance:
    """An agent; `files` are contents by path, those of its skills among them.

    `openclaw_config` has no dot paths any more, only what they lead to.
    """

    way: Way
    name: str
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    openclaw_config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    ways: Mapping[str, Way] = field(default_factory=dict)
    """Where in the file each of the files is wanted."""
    sessions: tuple[WantedSession, ...] = ()


@dataclass(frozen=True)
class WantedKey:
    """A scoped key for agents of the same file."""

    way: Way
    name: str
    instances: frozenset[str]
    permissions: frozenset[Permission]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class WantedOrganization:
    """An organization with the model keys themselves."""

    way: Way
    name: str
    tier: Tier | None = None
    model_keys: Mapping[ModelProvider, str] = field(default_factory=dict)
    instances: tuple[WantedInstance, ...] = ()
    keys: tuple[WantedKey, ...] = ()


def digest(content: str | bytes) -> str:
    """What tells contents apart."""
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def resolved(
    document: Document, places: SourceLocations, folder: Path, env: Mapping[str, str]
) -> tuple[WantedOrganization, ...]:
    """What is wanted; paths are relative to the seed file's folder. Raises SettingsInvalid."""
    return tuple(
        _organization(each, ("organizations", index), places, folder, env)
        for index, each in enumerate(document.organizations)
    )


def _organization(
    given: OrganizationGiven,
    way: Way,
    places: SourceLocations,
    folder: Path,
    env: Mapping[str, str],
) -> WantedOrganization:
    return WantedOrganization(
        way,
        given.name,
        given.tier,
        {
            provider: _key((*way, "model_keys", provider), reference, places, env)
            for provider, reference in given.model_keys.items()
        },
        tuple(
            _instance(each, (*way, "instances", index), places, folder)
            for index, each in enumerate(given.instances)
        ),
        tuple(
            WantedKey(
                (*way, "keys", index),
                each.name,
                frozenset(each.instances),
                frozenset(each.permissions),
                each.expires_at,
            )
            for index, each in enumerate(given.keys)
        ),
    )


def _key(way: Way, reference: str, places: SourceLocations, env: Mapping[str, str]) -> str:
    if reference == OFFLINE:
        return OFFLINE
    name = reference.removeprefix("env:")
    value = env.get(name, "").strip()
    return value or places.wrong(way, f"Set {name} in the environment, or write offline.")


def _instance(
    given: InstanceGiven, way: Way, places: SourceLocations, folder: Path
) -> WantedInstance:
    files: dict[str, bytes] = {}
    ways: dict[str, Way] = {}
    for name, source in given.skills.items():
        skill_way = (*way, "skills", name)
        skill = dict(_skill(skill_way, name, folder / source, places))
        files |= skill
        ways |= dict.fromkeys(skill, skill_way)
    for path, file in given.files.items():
        ways[path] = (*way, "files", path)
        if file.from_ is None:
            files[path] = (file.content or "").encode()
        else:
            files[path] = _content((*ways[path], "from"), folder / file.from_, places)
    sessions = tuple(
        WantedSession(
            (*way, "sessions", index),
            each.name,
            each.model or DEFAULT_MODELS[given.model_provider],
            tuple(each.messages),
        )
        for index, each in enumerate(given.sessions)
    )
    return WantedInstance(
        way,
        given.name,
        given.model_provider,
        _nested(given, way, places),
        files,
        ways,
        sessions,
    )


def _nested(given: InstanceGiven, way: Way, places: SourceLocations) -> dict[str, Any]:
    try:
        return agent_config.to_merge_patch(given.openclaw_config)
    except ConfigRefused as refused:
        places.wrong((*way, "openclaw_config"), str(refused))


def _skill(
    way: Way, name: str, source: Path, places: SourceLocations
) -> Iterator[tuple[str, bytes]]:
    if not (source / "SKILL.md").is_file():
        places.wrong(way, f"{source} should be a folder with a SKILL.md in it.")
    return (
        (f"workspace/skills/{name}/{path.relative_to(source).as_posix()}",
         _content(way, path, places))
        for path in sorted(source.rglob("*"))
        if path.is_file()
    )  # fmt: skip


def _content(way: Way, source: Path, places: SourceLocations) -> bytes:
    try:
        return source.read_bytes()
    except OSError as failure:
        places.wrong(way, f"{source} cannot be read: {failure.strerror}.")
