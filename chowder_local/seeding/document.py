"""What a seed file may say."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.seeding.source_locations import SourceLocations, read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

REFERENCE = re.compile(r"offline|env:[A-Za-z_][A-Za-z0-9_]*")


def _reference(value: str) -> str:
    if REFERENCE.fullmatch(value) is None:
        raise ValueError("write env:NAME, with the key in that variable, or offline")
    return value


def _below_home(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or not all(parts) or {".", ".."} & set(parts):
        raise ValueError("it should be a path below the agent's home, such as workspace/notes.md")
    return path


def _plain(name: str) -> str:
    if "/" in name or name in {".", ".."}:
        raise ValueError("it should be the name of one folder")
    return name


def _as_file(value: Any) -> Any:
    return {"content": value} if isinstance(value, str) else value


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as failure:
        raise ValueError(f"it should be what JSON can say; {failure}") from None
    return value


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


Name = Annotated[str, Field(min_length=1, max_length=128)]
HomePath = Annotated[str, AfterValidator(_below_home)]
Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileGiven(_Part):
    """A file's content, or `from` which file beside the seed file it comes."""

    content: str | None = None
    from_: str | None = Field(None, alias="from", min_length=1)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.content is None) is (self.from_ is None):
            raise ValueError("write its content, or {from: path}")
        return self


class SessionGiven(_Part):
    """Messages to a conversation, once and in order; without a name, to the main one."""

    name: Name | None = None
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    messages: list[Text] = Field(min_length=1)


class InstanceGiven(_Part):
    """An agent with what it has and knows."""

    name: Name
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    openclaw_config: Annotated[dict[str, Any], AfterValidator(_as_json)] = Field(
        default_factory=dict
    )
    files: dict[HomePath, Annotated[FileGiven, BeforeValidator(_as_file)]] = Field(
        default_factory=dict
    )
    skills: dict[Annotated[Name, AfterValidator(_plain)], Text] = Field(default_factory=dict)
    sessions: list[SessionGiven] = Field(default_factory=list)

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        _once("session", (each.name or "the main one" for each in self.sessions))
        return self


class KeyGiven(_Part):
    """A scoped key."""

    name: Name
    instances: list[Name] = Field(min_length=1)
    permissions: list[Permission] = Field(min_length=1)
    expires_at: Annotated[datetime, AfterValidator(_in_utc)] | None = None


class OrganizationGiven(_Part):
    """An organization; the one called `default` is the one that `up` makes."""

    name: Name
    tier: Tier | None = None
    model_keys: dict[ModelProvider, Annotated[str, AfterValidator(_reference)]] = Field(
        default_factory=dict
    )
    instances: list[InstanceGiven] = Field(default_factory=list)
    keys: list[KeyGiven] = Field(default_factory=list)

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        _once("instance", (each.name for each in self.instances))
        _once("key", (each.name for each in self.keys))
        known = {each.name for each in self.instances}
        for key in self.keys:
            if missing := [name for name in key.instances if name not in known]:
                raise ValueError(f"key {key.name}: {missing[0]} is none of the instances here")
        return self


class Document(_Part):
    """All that a seed file declares."""

    organizations: list[OrganizationGiven] = Field(min_length=1)

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        _once("organization", (each.name for each in self.organizations))
        return self


def read_document(file: Path) -> tuple[Document, SourceLocations]:
    """What a seed file declares, and where. Raises SettingsInvalid."""
    content, places = read(file)
    if not isinstance(content, dict):
        places.wrong((), "It should begin with 'organizations:'; README shows an example.")
    try:
        return Document.model_validate(content), places
    except ValidationError as invalid:
        problem = invalid.errors(include_url=False, include_input=False)[0]
        words = problem["msg"].removeprefix("Value error, ").rstrip(".")
        way = [part for part in problem["loc"] if part != "[key]"]
        places.wrong(way, f"{words[:1].upper()}{words[1:]}.")


def _once(kind: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{kind} {twice[0]} is there twice; names tell them apart")
