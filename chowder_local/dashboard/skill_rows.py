"""What the page says of a skill: whether the agent has it at hand, and what it lacks (pure)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from chowder_local.openclaw.skills import Skill

READY, LACKING, DISABLED = KINDS = ("ready", "lacking", "disabled")
STATUSES = {READY: "running", LACKING: "provisioning", DISABLED: "stopped"}
"""Those of an instance that look the same."""


@dataclass(frozen=True)
class Line:
    """A skill of the list; `lacks` says what would make it ready."""

    skill: Skill
    kind: str
    lacks: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        """Something for an element's id: a skill's name may be any text."""
        return hashlib.sha256(self.skill.name.encode("utf-8", "replace")).hexdigest()[:12]

    @property
    def query(self) -> str:
        """What names it in an address."""
        return urlencode({"name": self.skill.name})

    @property
    def homepage(self) -> str | None:
        """Where its author says that more is told, if a browser may be sent there."""
        return self.skill.homepage if self.skill.homepage.startswith("https://") else None


def line_of(skill: Skill) -> Line:
    """A skill as the page has it."""
    kind = READY if skill.is_ready else DISABLED if skill.is_disabled else LACKING
    lists = {
        "variables": skill.missing_env,
        "programs": skill.missing_programs,
        "settings": skill.missing_settings,
        "another system": skill.systems,
    }
    lacks = tuple((what, ", ".join(names)) for what, names in lists.items() if names)
    return Line(skill, kind, () if kind == READY else lacks)
