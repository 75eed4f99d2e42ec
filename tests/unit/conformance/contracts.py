"""Two contracts as facts by place, so that they can be compared: the pages' and our document's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.conformance.published import Kind, Published

    Facts = dict[str, Any]

ANYWHERE = {"400", "500", "502"}
"""Statuses that the pages have for all calls."""
PASSED = re.compile(r"Needs (no key|any key|an organization key)(?:, or .* `(\w+)`)?\.$")
ACCESS = {"no key": "nobody", "any key": "any", "an organization key": "organization"}
FORMATS = {"uuid": "id", "date-time": "time", "binary": "bytes"}
TYPES = {"string": "text"}
UNDESCRIBED = {"mode": "text", "any": "object"}
"""Kinds for which OpenAPI has no word, or we have a narrower one."""


def restated(published: Published) -> Facts:
    """The facts of the published contract."""
    facts: Facts = {}
    for name, call in published.calls.items():
        facts[name] = f"{call.method} /v1/{_anonymous(call.path)}"
        facts[f"{name} access"] = call.access
        facts |= {f"{name} {status}": True for status in call.errors}
        facts[f"{name} {call.status}"] = True
        facts |= {f"{name} error.detail": True} if call.errors else {}
        facts |= {f"{name} body.{each}": f"{kind}!" for each, kind in _plain(call.required)}
        facts |= {f"{name} body.{each}": kind for each, kind in _plain(call.optional)}
        for each, kind in _plain(call.query):
            facts[f"{name} query.{each.rstrip('?')}"] = kind if each.endswith("?") else f"{kind}!"
        if call.kind is not None:
            facts |= dict(_members(published, call.kind, f"{name} answer"))
    return facts


def _plain(members: Mapping[str, Kind]) -> Iterator[tuple[str, str]]:
    for name, kind in members.items():
        yield name, _canonical(f"[{kind[0]}]" if isinstance(kind, list) else kind)


def _canonical(kind: str) -> str:
    """The same spelling for the same kind."""
    kind = UNDESCRIBED.get(kind, kind)
    bare = kind.strip("[]?")
    return kind.replace(bare, "|".join(sorted(bare.split("|")))) if "|" in bare else kind


def _members(published: Published, kind: str, place: str) -> Iterator[tuple[str, str]]:
    bare = kind.strip("[]?")
    if bare not in published.objects:
        yield place, _canonical(kind)
        return
    yield place, kind.replace(bare, "object")
    for name, member in _plain(published.members(bare)):
        if name != "...":
            is_optional = name.endswith("?")
            below = f"{place}.{name.rstrip('?')}"
            for each, found in _members(published, member, below):
                yield each, f"{found}, optional" if is_optional and each == below else found


def documented(document: Mapping[str, Any]) -> Facts:
    """The facts of an OpenAPI document, in the same words."""
    facts: Facts = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = operation["operationId"]
            request = f"{method.upper()} {_anonymous(path)}"
            if not path.startswith("/v1/"):
                facts[f"{name} {path}"] = request
                continue
            facts[name] = request
            for place, fact in _facts(operation, document):
                known = facts.setdefault(f"{name} {place}", fact)
                if fact != known:
                    # Alternatives have the same member with different kinds.
                    facts[f"{name} {place}"] = f"{known} or {fact}"
    return facts


def _facts(operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    found = PASSED.search(operation["description"])
    assert found is not None
    yield "access", found[2] or ACCESS[found[1]]
    for each in operation["parameters"]:
        if each["in"] != "path":
            kind = _kind(each["schema"], document, is_optional=not each.get("required"))
            yield f"{each['in']}.{each['name']}", kind
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = _resolved(content["schema"], document)
        for name, member in schema["properties"].items():
            is_optional = name not in schema.get("required", ())
            yield f"body.{name}", _kind(member, document, is_optional=is_optional)
    for status, answer in operation["responses"].items():
        yield from _answer(status, _resolved(answer, document), document)


def _answer(
    status: str, answer: Mapping[str, Any], document: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    if status not in ANYWHERE:
        yield status, True
    is_success = status.startswith("2")
    if is_success:
        yield from ((f"answer-header.{name}", True) for name in answer["headers"])
    for media_type, content in answer.get("content", {}).items():
        if is_success and media_type != "text/event-stream":
            yield from _properties(content["schema"], document, "answer")
        elif not is_success:
            for each in content["schema"].get("anyOf", [content["schema"]]):
                for name in _resolved(each, document)["properties"]:
                    yield f"error.{name}", True


def _properties(
    schema: Mapping[str, Any], document: Mapping[str, Any], place: str
) -> Iterator[tuple[str, str]]:
    yield place, _plain_kind(schema, document)
    for each in _alternatives(schema, document):
        inner = _resolved(each.get("items", each), document)
        for choice in _alternatives(inner, document):
            for name, member in choice.get("properties", {}).items():
                yield from _properties(member, document, f"{place}.{name}")


def _kind(schema: Mapping[str, Any], document: Mapping[str, Any], *, is_optional: bool) -> str:
    kind = _plain_kind(schema, document)
    # Null is as good as to leave it out.
    return kind.removesuffix("?") if is_optional else f"{kind}!"


def _plain_kind(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    kinds = [_single(each, document) for each in _alternatives(schema, document)]
    nullable = "?" if "null" in kinds else ""
    return " or ".join(dict.fromkeys(each for each in kinds if each != "null")) + nullable


def _single(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "|".join(sorted(map(str, schema["enum"])))
    if schema.get("type") == "array":
        return f"[{_plain_kind(schema['items'], document)}]"
    kind = schema.get("type", "object")
    return FORMATS.get(schema.get("format", ""), TYPES.get(kind, str(kind)))


def _alternatives(
    schema: Mapping[str, Any], document: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    schema = _resolved(schema, document)
    choices = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return [_resolved(each, document) for each in choices]


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    *_, section, name = schema["$ref"].split("/")
    resolved: Mapping[str, Any] = document["components"][section][name]
    return resolved


def _anonymous(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)
