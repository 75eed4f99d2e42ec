"""The OpenAPI document, made from the route table and the differences."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from chowder_local import __version__
from chowder_local.api.access import Access
from chowder_local.api.openapi import differences, errors
from chowder_local.api.operations import IN_PATH
from chowder_local.api.schemas.responses import Message, ResponseStreamEvent
from chowder_local.api.schemas.server import ServerEvent
from chowder_local.core.logs import REQUEST_ID_HEADER
from chowder_local.http.middleware import OFFLINE_PROVIDERS_HEADER, QUEUE_POSITION_HEADER
from chowder_local.instances.conversations.idempotency import KEY_CHARACTERS
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from pydantic import BaseModel

    from chowder_local.api.operations import Operation

    Mode = Literal["validation", "serialization"]

SUMMARY = "The hosted OpenClaw agents API, on your own machine."

CONTACT = {"name": "chowder-local", "url": "https://github.com/chowder-local/chowder-local"}

ABOUT = """\
The calls under `/v1` are those of the hosted service, with the same shapes, statuses and errors.
Each instance is a container in which OpenClaw runs. The calls under `/local` exist only here.

- Bodies are JSON in UTF-8, sent with `Content-Type: application/json`. Under `/v1` the server
  ignores members that a body's schema does not name, and under `/local` it refuses them; it passes
  those of a message on to the agent.
- Ids are UUIDs; times are ISO 8601 in UTC.
- An error is `{"detail": "…"}`. If an agent's gateway or a model provider fails, it is
  `{"detail": {"error": "…"}}`. If the request is invalid, it is
  `{"detail": [{"loc": […], "msg": "…", "type": "…"}]}`. The answer to a message, a list of
  models and the 404 of another call of OpenAI's API have its
  `"error": {"message": "…", "type": "…", "code": "…", "param": "…"}` beside `detail`.
- The server refuses with a 403, whatever the key, a request whose `Host` it does not know, and a
  change that a page of another site requests.
- What belongs to another organization is a 404.
"""

KEY = (
    "`chd_org_…` is an organization key, for everything that belongs to the organization; "
    "`chd_sk_…` is a scoped key, for chosen instances and permissions."
)

TAGS = {
    "organization": "Sign up, and show or change the organization.",
    "instances": "Create, change, stop, start and delete instances.",
    "messages": "Send messages to an agent in the OpenAI Responses format.",
    "keys": "Create, list and revoke scoped keys.",
    "channels": "Connect an agent to messengers.",
    "skills": "Install and change an agent's skills.",
    "files": "Read and write the files of an agent's home.",
    "subscription": "The tier, which limits how many instances an organization may have.",
    "local": "What only the local server has.",
}

EVENT_STREAM = "text/event-stream"
EVENT_EXAMPLES = {
    ResponseStreamEvent: (
        "event: response.output_text.delta\n"
        'data: {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, '
        '"content_index": 0, "delta": "Hello!", "sequence_number": 4}\n\n'
        "data: [DONE]\n\n"
    ),
    ServerEvent: (
        "id: 5f2c81d0-7\n"
        "event: instance.status\n"
        'data: {"type": "instance.status", "at": "2026-05-04T03:02:01.000+00:00", '
        '"instance_id": "3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d", "status": "running", '
        '"before": "provisioning", "error_message": null}\n\n'
    ),
}
"""Example streams, by the model of their events."""

MEDIA_EXAMPLES = {
    "text/plain": "2026-05-04T03:02:01Z gateway: ready\n",
    "text/html": "<!doctype html>\n<title>chowder-local</title>\n",
    "application/octet-stream": "any bytes",
}
"""Example responses, by media type."""

REQUEST_ID = (
    "It is the request's id, which the server's log has, too: the value of the request's own "
    "header of that name, if that has 1 to 64 letters, digits, `.`, `_`, `~` or `-`, or else a new "
    "id."
)
QUEUE_POSITION = "The instance's place in the boot queue, from 1, while it waits there."

DIFFERENCES = "x-chowder-differences"

_HEADERS = {
    REQUEST_ID_HEADER: {"$ref": "#/components/headers/RequestId"},
    QUEUE_POSITION_HEADER: {"$ref": "#/components/headers/QueuePosition"},
    OFFLINE_PROVIDERS_HEADER: {"$ref": "#/components/headers/OfflineProviders"},
}


def document(operations: Iterable[Operation], *, is_3_2: bool = False) -> dict[str, Any]:
    """As OpenAPI 3.1, which most generators read; or as 3.2, which describes events of streams."""
    table = list(operations)
    schemas = _schemas(table)
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
                "ErrorCode": {
                    "description": "This server's name for the error, or HTTP's for its status.",
                    "required": True,
                    "schema": {"type": "string"},
                    "example": "instance_not_found",
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
    """A stream, with the schema of its events: as text that has them, or as OpenAPI 3.2 can."""
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
    example = EVENT_EXAMPLES[model]
    if is_3_2:
        return {"itemSchema": item, "example": example}
    # Generators take it for text, as before 3.2 no schema is of a stream's items.
    schema = {
        "type": "string",
        "contentMediaType": EVENT_STREAM,
        "contentSchema": {"type": "array", "items": item},
    }
    return {"schema": schema, "example": example}


def _text(media_type: str) -> dict[str, Any]:
    if media_type.startswith("text/"):
        return {"type": "string"}
    return {"type": "string", "format": "binary"}


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    models: dict[tuple[type[BaseModel], Mode], None] = {}
    for operation in operations:
        answer = operation.answer[0] if isinstance(operation.answer, list) else operation.answer
        for model in (operation.body, operation.query):
            if isinstance(model, type):
                models[model, "validation"] = None
        if isinstance(answer, type):
            models[answer, "serialization"] = None
        if operation.events is not None:
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


_UUID = {"type": "string", "format": "uuid"}

PATH_PARAMETERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "instance_id": ("The instance's id; an unknown or malformed one is a 404.", _UUID),
    "key_id": ("The key's id.", _UUID),
    "model_call_id": ("The model call's id.", {"type": "string", "examples": ["ex-1"]}),
    "response_id": (
        "The answer's id, or the turn's.",
        {"type": "string", "examples": ["resp_0f8fad5b"]},
    ),
    "run": (
        "The id of a turn or its answer, or its beginning; an agent; `AGENT:SESSION`; or "
        "`recording:AGENT`. Percent-encoded.",
        {"type": "string", "examples": ["resp_0f8fad5b", "support:orders"]},
    ),
    "fault_id": ("The fault's id.", _UUID),
    "item_id": (
        "The `trace_id` of a turn, or the `task_id` of a task.",
        {"type": "string", "examples": ["5bf024d133589c269a9492149020d5fe"]},
    ),
    "job_id": ("The job's id, as OpenClaw has given it.", {"type": "string"}),
    "approval_id": ("The approval's id, as OpenClaw has given it.", {"type": "string"}),
    "snapshot_id": ("The snapshot's id.", _UUID),
    "session_id": (
        "The session's name: any text. Percent-encode a `/` in it.",
        {"type": "string", "minLength": 1, "examples": ["project-alpha"]},
    ),
    "hook": (
        "The hook's name: `wake`, `agent`, or that of a mapping.",
        {"type": "string", "minLength": 1, "examples": ["agent"]},
    ),
    "channel": ("The channel's name.", {"type": "string", "enum": list(CHANNELS)}),
    "code": ("The pairing code.", {"type": "string", "examples": ["ABCD2345"]}),
    "skill_name": (
        "The skill's name.",
        {"type": "string", "minLength": 1, "examples": ["weather"]},
    ),
}
"""By the name in the path: description and schema."""


IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text. For 24 hours the same message with the same key gets the same "
    "answer, and the agent gets it once. The same key with another body is a 409. While the "
    "message is being answered, the key is a 409 with `Retry-After`.",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS},
}


def parameters_of(operation: Operation, schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters of path and query; `schemas` holds the query's model."""
    parameters: list[dict[str, Any]] = []
    for name, _ in IN_PATH.findall(operation.path):
        text, schema = PATH_PARAMETERS[name]
        parameters.append(
            {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        )
    if operation.query is not None:
        query = schemas[operation.query.__name__]
        required = query.get("required", ())
        for name, member in query["properties"].items():
            schema = {key: value for key, value in member.items() if key != "description"}
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in required,
                    "description": member.get("description", ""),
                    "schema": schema,
                }
            )
    if operation.body is Message:
        parameters.append(IDEMPOTENCY_KEY)
    return parameters


UUID = "3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d"
TIME = "2026-05-04T03:02:01Z"
UNKNOWN = "string"
"""The example of a string that has none of its own."""

_BY_FORMAT = {"uuid": UUID, "date-time": TIME, "uri": "http://127.0.0.1:2469/"}
_BY_TYPE: Mapping[str, Any] = {"string": UNKNOWN, "integer": 1, "number": 1.0, "boolean": True}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """The example; `schemas` has the schemas of `$ref`, by the last part of its path."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rsplit("/", 1)[-1]], schemas)
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    for keyword in ("example", "const", "default"):
        if schema.get(keyword) is not None:
            return schema[keyword]
    if "anyOf" in schema and "properties" not in schema:
        return example_of(schema["anyOf"][0], schemas)
    return _of_type(schema, schemas)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    kind = schema.get("type", "object")
    if kind == "array":
        return [example_of(schema["items"], schemas)] if "items" in schema else []
    if kind == "object":
        required = schema.get("required", ())
        return {
            name: example_of(member, schemas)
            for name, member in schema.get("properties", {}).items()
            if name in required or "examples" in member
        }
    return _BY_FORMAT.get(schema.get("format", ""), _BY_TYPE.get(kind))
