"""What the document says of an operation's parameters (pure)."""

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
    "instance_id": ("The instance's id; of what is no id there is no instance.", _UUID),
    "key_id": ("The key's id.", _UUID),
    "exchange_id": ("The model call's id.", {"type": "string", "examples": ["ex-1"]}),
    "fault_id": ("The fault's id.", _UUID),
    "snapshot_id": ("The snapshot's id.", _UUID),
    "session_id": (
        "The conversation's name: any text, `/` included when it is percent-encoded.",
        {"type": "string", "minLength": 1, "examples": ["project-alpha"]},
    ),
    "channel": ("The channel's name.", {"type": "string", "enum": list(CHANNELS)}),
    "skill_name": (
        "The skill's name.",
        {"type": "string", "minLength": 1, "examples": ["weather"]},
    ),
}
"""By the name in the path: what it is, and its schema."""


IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text. For 24 hours the same message with the same key gets the same "
    "answer, and the agent hears it once; with another body the key is a 409, and so it is, with "
    "`Retry-After`, while the message is being answered.",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS},
}


def parameters_of(operation: Operation, schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters of path and query; `schemas` holds the query's model."""
    found: list[dict[str, Any]] = []
    for name, _ in IN_PATH.findall(operation.path):
        words, schema = PATH_PARAMETERS[name]
        found.append(
            {"name": name, "in": "path", "required": True, "description": words, "schema": schema}
        )
    if operation.query is not None:
        query = schemas[operation.query.__name__]
        required = query.get("required", ())
        for name, known in query["properties"].items():
            schema = {key: value for key, value in known.items() if key != "description"}
            found.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in required,
                    "description": known.get("description", ""),
                    "schema": schema,
                }
            )
    if operation.body is Message:
        found.append(IDEMPOTENCY_KEY)
    return found
