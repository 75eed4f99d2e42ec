"""The differences from the hosted service that a client can notice, read from their data file."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, model_validator

_LINK = re.compile(r"\[([^\[\]]+)\]\([^()]+\)")


class Expectation(BaseModel):
    """JSON schemas of what a test of the conformance suite observes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosted: dict[str, Any] = {}
    here: dict[str, Any] = {}


class Difference(BaseModel):
    """One difference. The texts are lines of Markdown, with links as on the page of differences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    topic: str
    hosted: str
    """What the hosted service's documentation says."""
    here: str
    why: str
    since: str
    """The first version of this server that has it."""
    operations: tuple[str, ...] = ()
    """The ids of the operations that it is about; none if it is about all, or about none."""
    contract: tuple[str, ...] = ()
    """Patterns of what only one of the published contract and our document has."""
    expect: Expectation | None = None
    unjudged: str | None = None
    """Why no call can show it."""

    @model_validator(mode="after")
    def _is_judged_or_says_why_not(self) -> Self:
        if (self.expect is None) == (self.unjudged is None):
            raise ValueError(f"{self.id} needs either `expect` or `unjudged`")
        return self

    def described(self) -> dict[str, str]:
        """The members of `x-chowder-differences`, without links."""
        texts = self.model_dump(include={"id", "topic", "hosted", "here", "why", "since"})
        return {name: _LINK.sub(r"\1", text) for name, text in texts.items()}


class Section(BaseModel):
    """Differences under one heading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    section: str
    differences: tuple[Difference, ...]


def sections() -> list[Section]:
    """All differences, in the order of the page."""
    # Imported here, because importing it takes longer than importing this package.
    import yaml

    file = resources.files("chowder_local.api.openapi") / "differences.yaml"
    return TypeAdapter(list[Section]).validate_python(yaml.safe_load(file.read_text("utf-8")))


def by_id() -> dict[str, Difference]:
    """All differences by their id."""
    return {each.id: each for section in sections() for each in section.differences}


def by_operation() -> dict[str, list[Difference]]:
    """The differences of each operation that has any, by its id."""
    found: dict[str, list[Difference]] = {}
    for section in sections():
        for difference in section.differences:
            for operation_id in difference.operations:
                found.setdefault(operation_id, []).append(difference)
    return found
