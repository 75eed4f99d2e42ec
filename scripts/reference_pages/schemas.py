"""JSON schemas as tables of members (pure)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from scripts.reference_pages.markdown import code, codes, inline, prose, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = Mapping[str, Any]

_FORMATS = {"path": "path", "binary": "bytes", "date-time": "date and time", "uuid": "UUID"}
_OR_NULL = " or null"
# The OpenAPI document repeats defaults in descriptions for generated clients.
_DEFAULT = re.compile(r"\s*Default: `(.+)`\.$")


class Schemas:
    """Named schemas. Those with members have a section each; others are written out.

    `elsewhere` has the pages of sections on other pages, by name. `prefix` is left out of names.
    `may_omit_null` is for files, in which null means that a member is absent.
    """

    def __init__(
        self,
        named: Mapping[str, Schema],
        *,
        elsewhere: Mapping[str, str] | None = None,
        prefix: str = "",
        may_omit_null: bool = False,
    ) -> None:
        self._named = named
        self._elsewhere = elsewhere or {}
        self._prefix = prefix
        self._may_omit_null = may_omit_null

    def resolve(self, schema: Schema) -> Schema:
        """The referenced schema, or the schema itself."""
        return self._named[name_of(schema)] if "$ref" in schema else schema

    def type_of(self, schema: Schema) -> str:
        """A type with its bounds, as Markdown."""
        if "$ref" in schema:
            name, named = name_of(schema), self.resolve(schema)
            return self.link(name) if "properties" in named else self.type_of(named)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return " or ".join(dict.fromkeys(map(self.type_of, schema[word])))
        if "enum" in schema:
            return codes(schema["enum"], " or ")
        if "const" in schema:
            value = schema["const"]
            return code(value if isinstance(value, str) else json.dumps(value))
        bounds = ", ".join(_bounds(schema))
        return f"{self._plain_type(schema)} ({bounds})" if bounds else self._plain_type(schema)

    def _plain_type(self, schema: Schema) -> str:
        kind = str(schema.get("type", "any value"))
        if kind == "array":
            return f"list of {self.type_of(schema['items'])}" if schema.get("items") else "list"
        if kind == "object":
            values = next(iter(schema.get("patternProperties", {}).values()), None)
            values = values or schema.get("additionalProperties")
            return f"map of {self.type_of(values)}" if isinstance(values, dict) and values else kind
        return _FORMATS.get(schema.get("format", ""), kind) if kind == "string" else kind

    def members(self, schema: Schema, *, is_sent: bool, word: str = "Member") -> str:
        """The table of members; those of requests have defaults, or are required."""
        required = set(schema.get("required", ()))
        rows = []
        for name, member in schema.get("properties", {}).items():
            kind = self.type_of(member)
            if self._may_omit_null and name not in required:
                kind = kind.removesuffix(_OR_NULL)
            default = self.default(member, is_required=name in required) if is_sent else ""
            description = _DEFAULT.sub("", member.get("description") or "")
            rows.append((code(name), kind, default, inline(description)))
        return table((word, "Type", "Default", "Description"), rows)

    def default(self, schema: Schema, *, is_required: bool) -> str:
        """The default value as Markdown."""
        if is_required:
            return "*required*"
        value = schema.get("default")
        if value is None and (match := _DEFAULT.search(schema.get("description") or "")):
            value = json.loads(match[1])
        if value is None or value == []:
            return ""
        return code(value if isinstance(value, str) else json.dumps(value))

    def link(self, name: str) -> str:
        """A link to a schema's section."""
        title = self._title(name)
        return f"[{title}]({self._elsewhere.get(name, '')}#{title.lower()})"

    def section(self, name: str, *, is_sent: bool) -> str:
        """A named schema: heading, description and members."""
        schema = self._named[name]
        parts = (f"### {self._title(name)}", prose(schema.get("description")))
        return "\n\n".join(filter(None, (*parts, self.members(schema, is_sent=is_sent))))

    def used_by(self, schema: Schema) -> list[str]:
        """The names of schemas with a section that a schema refers to, even indirectly."""
        names: dict[str, None] = {}
        waiting = list(_references(schema))
        while waiting:
            name = waiting.pop(0)
            if name not in names and name not in self._elsewhere:
                names[name] = None
                waiting += _references(self._named[name])
        return [name for name in names if "properties" in self._named[name]]

    def _title(self, name: str) -> str:
        return name.removeprefix(self._prefix)


def name_of(schema: Schema) -> str:
    """The name of the referenced schema."""
    return str(schema["$ref"]).rsplit("/", 1)[-1]


def _bounds(schema: Schema) -> Iterator[str]:
    yield from _range(schema.get("minimum"), schema.get("maximum"), "")
    if "exclusiveMinimum" in schema:
        yield f"more than {schema['exclusiveMinimum']:g}"
    yield from _range(schema.get("minLength"), schema.get("maxLength"), " characters")
    yield from _range(schema.get("minItems"), schema.get("maxItems"), " items")


def _range(least: float | None, most: float | None, unit: str) -> Iterator[str]:
    if least is not None and most is not None:
        is_one = least == most
        yield f"{_number(least)}{unit}" if is_one else f"{_number(least)} to {_number(most)}{unit}"
    elif least is not None:
        yield f"at least {_number(least)}{unit.removesuffix('s') if least == 1 else unit}"
    elif most is not None:
        yield f"at most {_number(most)}{unit}"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,}"


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield name_of(part)
        part = [value for name, value in part.items() if name != "$defs"]
    if isinstance(part, list):
        for each in part:
            yield from _references(each)
