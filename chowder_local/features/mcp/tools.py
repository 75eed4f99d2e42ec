"""The tools: each stands for a call of the route table, or for a few of them (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import getdoc
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from chowder_local.api.access import Access
from chowder_local.api.openapi.document import PATH_PARAMETERS
from chowder_local.api.operations import IN_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chowder_local.api.operations import Operation

SEND_MESSAGE = "send_message"
EXPLAIN_FAILURE = "explain_failure"
DOCTOR = "doctor"
CHANGES_STATUS = frozenset({"createInstance", "startInstance", "forkInstance", "restoreInstance"})
"""The tool waits until the instance that it answers with is no longer `provisioning`."""
DESTRUCTIVE = frozenset({"restoreInstance", "resetSession"})
"""Besides calls that delete something."""
ENDLESS = frozenset({"follow"})
"""Parameters with which a call does not end."""

_WHOLE: Mapping[str, Any] = {"type": "object", "additionalProperties": False}


@dataclass(frozen=True)
class EditorTool:
    """A tool: `operation` is None for one that stands for several calls."""

    name: str
    description: str
    schema: Mapping[str, Any]
    access: Access
    operation: Operation | None = None

    @property
    def is_read_only(self) -> bool:
        return self.operation.method == "GET" if self.operation else self.name != SEND_MESSAGE

    @property
    def is_destructive(self) -> bool:
        if self.operation is None:
            return False
        return self.operation.method == "DELETE" or self.operation.operation_id in DESTRUCTIVE


def tools(operations: Iterable[Operation]) -> Mapping[str, EditorTool]:
    """All tools by name, of a route table."""
    of_calls = [_of_call(each.tool, each) for each in operations if each.tool]
    return {each.name: each for each in (*of_calls, *_OWN)}


def _of_call(name: str, operation: Operation) -> EditorTool:
    members: dict[str, Any] = {}
    required: list[str] = []
    definitions: dict[str, Any] = {}
    for parameter, _ in IN_PATH.findall(operation.path):
        description, schema = PATH_PARAMETERS[parameter]
        members[parameter] = {**schema, "description": description}
        required.append(parameter)
    for model in (operation.query, operation.body):
        if isinstance(model, type) and issubclass(model, BaseModel):
            schema = _untitled(model.model_json_schema())
            members |= schema.get("properties", {})
            required += schema.get("required", [])
            definitions |= schema.get("$defs", {})
    properties = {key: value for key, value in members.items() if key not in ENDLESS}
    whole = {**_WHOLE, "properties": properties, "required": required}
    if definitions:
        whole["$defs"] = definitions
    documented = getdoc(operation.handler)
    description = f"{operation.summary}. {documented}" if documented else f"{operation.summary}."
    return EditorTool(name, description, whole, operation.access, operation)


def _untitled(schema: Any) -> Any:
    """Without the titles that pydantic makes of names, which a model would read for nothing."""
    if isinstance(schema, list):
        return [_untitled(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _untitled(each)
        for name, each in schema.items()
        if name != "title" or not isinstance(each, str)
    }


def _instance_member() -> dict[str, Any]:
    description, schema = PATH_PARAMETERS["instance_id"]
    return {**schema, "description": description}


_OWN = (
    EditorTool(
        SEND_MESSAGE,
        "Send a message to an agent, and get its answer. The answer's text comes as progress while "
        "the agent writes it.",
        {
            **_WHOLE,
            "properties": {
                "instance_id": _instance_member(),
                "text": {"type": "string", "description": "What to say.", "minLength": 1},
                "session": {
                    "type": "string",
                    "description": "A conversation of its own; by default, the main one.",
                },
                "model": {
                    "type": "string",
                    "description": "A model id; by default, one of the instance's provider.",
                },
            },
            "required": ["instance_id", "text"],
        },
        Access.INTERACT,
    ),
    EditorTool(
        EXPLAIN_FAILURE,
        "Explain why an agent failed, or that nothing did: its status, the last model call that "
        "failed, faults that are set, and what its log says, with a summary.",
        {
            **_WHOLE,
            "properties": {"instance_id": _instance_member()},
            "required": ["instance_id"],
        },
        Access.ORGANIZATION,
    ),
    EditorTool(
        DOCTOR,
        "Find problems of the server, the container engine and the image, and how to fix them.",
        {**_WHOLE, "properties": {}},
        Access.ORGANIZATION,
    ),
)
