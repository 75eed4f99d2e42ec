"""What `pull` and `push` last saw of agents of other servers: a file beside the seed file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.openclaw.config.agent_config import portable
from chowder_local.openclaw.config.edits import leaves

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "seen.json"


class SeenAgent(BaseModel):
    """An agent as it was when both sides were last known to be alike, part by part."""

    model_config = ConfigDict(extra="forbid")
    files: dict[str, str] = Field(default_factory=dict)
    """The SHA-256 of its files by path."""
    executable: set[str] = Field(default_factory=set)
    settings: dict[str, Any] = Field(default_factory=dict)
    """The values of its settings by dotted path, without secrets and channels."""


AGENTS = TypeAdapter(dict[str, dict[str, SeenAgent]])


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration by dotted path, without secrets and channels."""
    return {".".join(path): value for path, value in leaves(portable(config))}


def as_text(settings: Mapping[str, Any]) -> dict[str, str]:
    """The values as JSON, because in Python 1 equals True."""
    return {name: json.dumps(value, sort_keys=True) for name, value in settings.items()}


def nest(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """The configuration, or the merge patch, with these values by path."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        below = nested
        for name in path[:-1]:
            if not isinstance(below.get(name), dict):
                below[name] = {}
            below = below[name]
        below[path[-1]] = value
    return nested


@dataclass(eq=False, repr=False)
class Seen:
    """The file, meant to be committed: it has no secrets. Without it, nothing was seen."""

    file: Path

    @classmethod
    def beside(cls, seed_file: Path) -> Seen:
        """Raises SettingsInvalid if the file cannot be read."""
        return cls(seed_file.with_name(NAME))

    def __post_init__(self) -> None:
        try:
            self._agents = AGENTS.validate_json(self.file.read_bytes())
        except FileNotFoundError:
            self._agents = {}
        except (OSError, ValidationError) as failure:
            is_other = isinstance(failure, ValidationError)
            reason = "it is not as pull writes it" if is_other else str(failure)
            raise SettingsInvalid(
                f"{self.file} cannot be read: {reason}. Put its last version back, or remove it: "
                "then everything that differs is a conflict."
            ) from None

    def agent(self, base_url: str, instance_id: str) -> SeenAgent:
        """What was seen of an agent, for `write` to keep its changes."""
        return self._agents.setdefault(base_url, {}).setdefault(instance_id, SeenAgent())

    def write(self) -> None:
        """Raises SettingsInvalid if the file cannot be written."""
        agents = AGENTS.dump_python(self._agents)
        # A line for each file, in order, so that two versions can be merged.
        text = json.dumps(agents, indent=1, sort_keys=True, ensure_ascii=False, default=sorted)
        part = self.file.with_name(f".{self.file.name}.part")
        try:
            part.write_text(f"{text}\n", encoding="utf-8")
            part.replace(self.file)
        except OSError as failure:
            raise SettingsInvalid(
                f"{self.file} cannot be written: {failure.strerror}. Make it writable and run the "
                "command again, so that the next one knows what this one saw."
            ) from None
