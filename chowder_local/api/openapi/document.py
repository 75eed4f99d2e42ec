"""The OpenAPI document, made from the route table and the differences."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from chowder_local import __version__
from chowder_local.api.access import Access
from chowder_local.api.openapi import differences, errors
from chowder_local.api.openapi.descriptions import (
    ABOUT,
    CONTACT,
    EVENT_EXAMPLES,
    EVENT_STREAM,
    KEY,
    MEDIA_EXAMPLES,
    QUEUE_POSITION,
    REQUEST_ID,
    SUMMARY,
    TAGS,
)
from chowder_local.api.openapi.examples import example_of
from chowder_local.api.openapi.parameters import parameters_of
from chowder_local.api.schemas.responses import ResponseStreamEvent
from chowder_local.core.logs import REQUEST_ID_HEADER
from chowder_local.http.middleware import OFFLINE_PROVIDERS_HEADER, QUEUE_POSITION_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from pydantic import BaseModel

    from chowder_local.api.operations import Operation

    Mode = Literal["validation", "serialization"]

DIFFERENCES = "x-chowder-differences"

_HEADERS = {
    REQUEST_ID_HEADER: {"$ref": "#/components/headers/RequestId"},
    QUEUE_POSITION_HEADER: {"$ref": "#/components/headers/QueuePosition"},
    OFFLINE_PROVIDERS_HEADER: {"$ref": "#/components/headers/OfflineProviders"},
}


def document(operations: Iterable[Operation], *, is_3_2: bool = False) -> dict[str, Any]:
    """As OpenAPI 3.1, which most generators read; or as 3.2, which describes events of streams."""
    table = list(operations)
    schemas = _schemas(table, is_3_2=is_3_2)
    paths: dict[str, dict[str, Any]] = {}
    different = differences.by_operation()
    for operation in table:
        described = _operation(operation, schemas, is_3_2=is_3_2)
        if found := different.get(operation.operation_id):
            described[DIFFERENCES] = [each.described() for each in found]
        paths.setdefault(operation.template, {})[operation.method.lower()] = described
    used = {operation.tag for operation in table}
    # A query's model is described by its parameters.
    queries = {each.query.__name__ for each in table if each.query is not None}
    return {
        "openapi": "3.2.0" if is_3_2 else "3.1.0",
        "info": {
            "title": "chowder-local",
            "version": __version__,
            "summary": SUMMARY,
            "description": ABOUT,
            "contact": CONTACT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server that this document is from."}],
        "tags": [
            {"name": name, "description": text} for name, text in TAGS.items() if name in used
        ],
        "paths": paths,
        "components": {
            "schemas": {name: each for name, each in schemas.items() if name not in queries},
            "responses": errors.components(table),
            "headers": {
                "RequestId": {
                    "description": REQUEST_ID,
                    "required": True,
                    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,64}$"},
                },
                "QueuePosition": {
                    "description": QUEUE_POSITION,
                    "schema": {"type": "integer", "minimum": 1},
                    "example": 1,
                },
                "OfflineProviders": {
                    "description": "The providers whose key is `offline`, separated by commas.",
                    "schema": {"type": "string"},
                    "example": "openai",
                },
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": KEY}},
        },
    }


def _operation(operation: Operation, schemas: Mapping[str, Any], *, is_3_2: bool) -> dict[str, Any]:
    text = (operation.handler.__doc__ or "").strip()
    described: dict[str, Any] = {
        "summary": operation.summary,
        "description": f"{text}\n\n{_required_key(operation.access)}",
        "operationId": operation.operation_id,
        "tags": [operation.tag],
        "parameters": parameters_of(operation, schemas),
        "security": [] if operation.access is Access.ANYONE else [{"key": []}],
    }
    if isinstance(operation.body, str):
        content = _content(operation.body, _text(operation.body), schemas)
        described["requestBody"] = {"required": True, "content": content}
    elif operation.body is not None:
        content = _content(operation.body_type, _ref(operation.body), schemas)
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = {
        str(operation.status): _answer(operation, schemas, is_3_2=is_3_2),
        **errors.answers(operation),
    }
    return described


def _required_key(access: Access) -> str:
    if access is Access.ANYONE:
        return "Needs no key."
    if access is Access.ANY_KEY:
        return "Needs any key."
    if access.permission is None:
        return "Needs an organization key."
    return f"Needs an organization key, or one with the permission `{access.permission}`."


def _answer(operation: Operation, schemas: Mapping[str, Any], *, is_3_2: bool) -> dict[str, Any]:
    answer = operation.answer
    content: dict[str, Any] = {}
    if isinstance(answer, str):
        content |= _content(answer, _text(answer), schemas)
    elif isinstance(answer, list):
        content |= _content(
            "application/json", {"type": "array", "items": _ref(answer[0])}, schemas
        )
    elif answer is not None:
        content |= _content("application/json", _ref(answer), schemas)
    if operation.events is not None:
        content[EVENT_STREAM] = _events(operation.events, is_3_2=is_3_2)
    headers = {name: _HEADERS[name] for name in (REQUEST_ID_HEADER, *operation.headers)}
    described: dict[str, Any] = {"description": operation.summary, "headers": headers}
    if content:
        described["content"] = content
    return described


def _content(media_type: str, schema: dict[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    example = MEDIA_EXAMPLES.get(media_type) or example_of(schema, schemas)
    return {media_type: {"schema": schema, "example": example}}


def _events(model: type[BaseModel], *, is_3_2: bool) -> dict[str, Any]:
    """A stream: as text for generators, or with the schema of its events."""
    example = EVENT_EXAMPLES[model]
    if not is_3_2:
        return {"schema": {"type": "string"}, "example": example}
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": _ref(model),
    }
    event: dict[str, Any] = {"type": "string", "description": "The event's `type`."}
    if model is ResponseStreamEvent:
        data = {"anyOf": [{"const": "[DONE]", "description": "The stream's end."}, data]}
        members = {"event": event, "data": data}
    else:
        resume = "The id to resume after, as `Last-Event-ID`."
        members = {"id": {"type": "string", "description": resume}, "event": event, "data": data}
    item = {"type": "object", "properties": members, "required": ["data"]}
    return {"itemSchema": item, "example": example}


def _text(media_type: str) -> dict[str, Any]:
    if media_type.startswith("text/"):
        return {"type": "string"}
    return {"type": "string", "format": "binary"}


def _schemas(operations: list[Operation], *, is_3_2: bool) -> dict[str, Any]:
    models: dict[tuple[type[BaseModel], Mode], None] = {}
    for operation in operations:
        answer = operation.answer[0] if isinstance(operation.answer, list) else operation.answer
        for model in (operation.body, operation.query):
            if isinstance(model, type):
                models[model, "validation"] = None
        if isinstance(answer, type):
            models[answer, "serialization"] = None
        if is_3_2 and operation.events is not None:
            models[operation.events, "serialization"] = None
    for model in errors.MODELS:
        models[model, "serialization"] = None
    _, schema = models_json_schema(list(models), ref_template="#/components/schemas/{model}")
    # Pydantic also defines what a model replaces by a schema of its own.
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(schema)))
    used |= {model.__name__ for model, _ in models}
    schemas: dict[str, Any] = {name: each for name, each in schema["$defs"].items() if name in used}
    _close_patterns(schemas)
    queries = {each.query.__name__ for each in operations if each.query is not None}
    for name, each in schemas.items():
        _describe_defaults(each, is_query=name in queries)
    return schemas


def _describe_defaults(schema: dict[str, Any], *, is_query: bool) -> None:
    """Moves defaults into descriptions, because generators require members that have one.

    A default of null is dropped. Query parameters keep their other defaults, which generators do
    not require.
    """
    optional = set(schema.get("properties", {})) - set(schema.get("required", ()))
    for name in optional:
        member = schema["properties"][name]
        if "default" not in member or (is_query and member["default"] is not None):
            continue
        default = member.pop("default")
        if default is not None:
            texts = [member.get("description"), f"Default: `{json.dumps(default)}`."]
            member["description"] = " ".join(filter(None, texts))


def _close_patterns(part: Any) -> None:
    """Requires a mapping's keys to match their pattern, which pydantic does not declare."""
    if isinstance(part, dict):
        if "patternProperties" in part:
            part["additionalProperties"] = False
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            _close_patterns(each)


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
