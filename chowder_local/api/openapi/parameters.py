"""The parameters of an operation in the document (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.api.operations import IN_PATH
from chowder_local.api.schemas.responses import Message
from chowder_local.instances.conversations.idempotency import KEY_CHARACTERS
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.api.operations import Operation

_UUID = {"type": "string", "format": "uuid"}

PATH_PARAMETERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "instance_id": ("The instance's id; an unknown or malformed one is a 404.", _UUID),
    "key_id": ("The key's id.", _UUID),
    "exchange_id": ("The model call's id.", {"type": "string", "examples": ["ex-1"]}),
    "response_id": (
        "The answer's id, or the turn's.",
        {"type": "string", "examples": ["resp_0f8fad5b"]},
    ),
    "fault_id": ("The fault's id.", _UUID),
    "snapshot_id": ("The snapshot's id.", _UUID),
    "session_id": (
        "The session's name: any text. Percent-encode a `/` in it.",
        {"type": "string", "minLength": 1, "examples": ["project-alpha"]},
    ),
    "channel": ("The channel's name.", {"type": "string", "enum": list(CHANNELS)}),
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
