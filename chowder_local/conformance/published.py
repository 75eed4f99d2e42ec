"""The hosted service's published contract, read from its data file."""

from __future__ import annotations

import re
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = str | list[str]
"""The kind of a value, as the data file's first lines explain."""

PERMISSIONS = ("read", "interact", "configure", "files", "channels")

_WORDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer", "minimum": 0},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "any": {},
    "id": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    # ISO 8601 in UTC.
    "time": {"type": "string", "format": "date-time", "pattern": "(Z|[+]00:00)$"},
    "mode": {"type": "string", "pattern": "^[dl-]([r-][w-][xsStT-]){3}$"},
}
_PLACEHOLDER = re.compile(r"\{\w+\}")
_INHERITED = "<<"
_MORE = "..."


class PublishedCall(BaseModel):
    """A call: who may send what, and what the answer is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: str
    """Method and path below the base URL."""
    access: str
    required: dict[str, Kind] = {}
    optional: dict[str, Kind] = {}
    query: dict[str, Kind] = {}
    answer: str | int
    refusals: tuple[int, ...] = ()
    """Statuses besides those that follow from the rest."""

    @property
    def method(self) -> str:
        return self.request.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.request.partition(" ")[2].lstrip("/")

    @property
    def status(self) -> int:
        return int(str(self.answer)[:3])

    @property
    def kind(self) -> str | None:
        """The kind of the answer; None if it has no content."""
        return str(self.answer)[4:] or None

    @property
    def errors(self) -> set[int]:
        """The documented statuses of refusals."""
        derived = {
            401: self.access != "nobody",
            403: self.access not in {"nobody", "any"},
            404: "{" in self.path and self.access != "nobody",
            422: bool(self.required or self.optional or self.query),
        }
        return {status for status, is_due in derived.items() if is_due} | set(self.refusals)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the paths of its requests match."""
        parts = (re.escape(part) for part in _PLACEHOLDER.split(self.path))
        return re.compile("[^/]+".join(parts))


class Sample(BaseModel):
    """An answer, or a part of one, as a page shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    page: Literal["guide", "reference"]
    value: Any


class Contradiction(BaseModel):
    """What a page says, and the entry of the differences or the test that settles it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str
    entry: str | None = None
    test: str | None = None


class Published(BaseModel):
    """All that the pages say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objects: dict[str, dict[str, Kind]]
    calls: dict[str, PublishedCall]
    channels: dict[str, tuple[str, ...]]
    tiers: dict[str, int | None]
    messages: dict[str, str]
    samples: tuple[Sample, ...]
    contradictions: tuple[Contradiction, ...]

    def members(self, name: str) -> dict[str, Kind]:
        """The members of an object, inherited ones first."""
        own = dict(self.objects[name])
        inherited = own.pop(_INHERITED, None)
        return (self.members(inherited) if isinstance(inherited, str) else {}) | own

    def operation(self, method: str, path: str) -> str:
        """The id of the call of a request below the base URL; the request itself if there is none.

        Of two calls that match, the one with fewer placeholders counts.
        """
        found = [
            name
            for name, call in self.calls.items()
            if call.method == method and call.pattern.fullmatch(path)
        ]
        return min(
            found, key=lambda name: self.calls[name].path.count("{"), default=f"{method} {path}"
        )

    def schema_of(self, kind: Kind) -> dict[str, Any]:
        """A JSON schema of a kind."""
        defs = {name: self._object(name) for name in self.objects}
        return {**_schema(kind), "$defs": defs}

    def _object(self, name: str) -> dict[str, Any]:
        members = self.members(name)
        is_open = members.pop(_MORE, None) is not None
        return {
            "type": "object",
            "properties": {each.rstrip("?"): _schema(kind) for each, kind in members.items()},
            "required": [each for each in members if not each.endswith("?")],
            "additionalProperties": is_open,
        }


def _schema(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, list):
        return {"type": "array", "items": _schema(kind[0])}
    if " or " in kind:
        return {"anyOf": [_schema(each) for each in kind.split(" or ")]}
    if kind.endswith("?"):
        return {"anyOf": [_schema(kind[:-1]), {"type": "null"}]}
    if kind.startswith("["):
        return _schema([kind[1:-1]])
    if kind[0].isupper():
        return {"$ref": f"#/$defs/{kind}"}
    return _WORDS.get(kind) or ({} if kind == "any" else {"enum": kind.split("|")})


@cache
def read() -> Published:
    """The published contract."""
    # Imported here, because importing it takes longer than importing this package.
    import yaml

    file = resources.files("chowder_local.conformance") / "published.yaml"
    return Published.model_validate(yaml.safe_load(file.read_text("utf-8")))
