"""The differences from the hosted service that a client can notice, read from their data file."""

from __future__ import annotations

import re
from importlib import resources

from pydantic import BaseModel, ConfigDict, TypeAdapter

_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


class Difference(BaseModel):
    """One difference. The texts are lines of Markdown, with links as on the page of differences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str
    hosted: str
    """What the hosted service's documentation says."""
    here: str
    why: str
    since: str
    """The first version of this server that has it."""
    operations: tuple[str, ...] = ()
    """The ids of the operations that it is about; none if it is about all, or about none."""

    def described(self) -> dict[str, str]:
        """The members of `x-chowder-differences`, without links."""
        texts = self.model_dump(exclude={"operations"})
        return {name: _LINK.sub(r"\1", text) for name, text in texts.items()}


class Section(BaseModel):
    """Differences under one heading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    section: str
    differences: tuple[Difference, ...]


def sections() -> list[Section]:
    """All differences, in the order of the page."""
    # Only here: it takes longer to import than this package.
    import yaml

    file = resources.files("chowder_local.api.openapi") / "differences.yaml"
    return TypeAdapter(list[Section]).validate_python(yaml.safe_load(file.read_text("utf-8")))


def by_operation() -> dict[str, list[Difference]]:
    """The differences of each operation that has any, by its id."""
    found: dict[str, list[Difference]] = {}
    for section in sections():
        for difference in section.differences:
            for operation_id in difference.operations:
                found.setdefault(operation_id, []).append(difference)
    return found
