"""The document's own words: what the whole is, its subjects, and texts that have no model."""

from __future__ import annotations

from typing import Any

from chowder_local.core.events import EventType

SUMMARY = "The hosted OpenClaw agents API, on your own machine."

ABOUT = """\
The calls under `/v1` are those of the hosted service, with the same shapes, statuses and errors;
behind each instance is a container in which OpenClaw really runs. The calls under `/local` are
this server's alone.

- Bodies are JSON in UTF-8, sent with `Content-Type: application/json`. Members that a body's
  schema does not name are ignored, those of a message are passed on to the agent.
- Ids are UUIDs; times are ISO 8601 in UTC.
- An error is `{"detail": "…"}`. If an agent's gateway or a model provider is at fault, it is
  `{"detail": {"error": "…"}}`, and of a request that breaks a bound
  `{"detail": [{"loc": […], "msg": "…", "type": "…"}]}`. Where a message is sent, OpenAI's
  `"error": {"message": "…", "type": "…", "code": "…", "param": "…"}` stands beside `detail`.
- A request for a name that the server is not known by, and a change that a page of another site
  wants, are refused with a 403, whatever the key.
- What belongs to another organization is not found; that it exists is told to nobody.
"""

KEY = (
    "`chd_org_…` is an organization's key, for everything that belongs to it; `chd_sk_…` is "
    "scoped, for named instances with named permissions."
)

TAGS = {
    "organization": "Signing up, and what an organization is.",
    "instances": "An agent's life: created, stopped, started, deleted.",
    "messages": "Talking with an agent in the OpenAI Responses format.",
    "keys": "Scoped keys.",
    "channels": "Messengers that an agent is reached by.",
    "skills": "What an agent has learnt.",
    "files": "The files of an agent's home.",
    "subscription": "How many instances an organization may have.",
    "local": "What only the local server has.",
}

ITEM_SCHEMA = "x-item-schema"
"""Of a stream: the schema of each of its events."""

EVENT = {
    "type": "object",
    "description": "One event of a stream, whose last one has the data `[DONE]`.",
    "properties": {
        "event": {"type": "string", "description": "The type that the data has, too."},
        "data": {
            "type": "string",
            "description": "A streaming event of the OpenAI Responses format, as JSON.",
        },
    },
    "required": ["data"],
}

LOCAL_EVENT: dict[str, Any] = {
    "type": "object",
    "description": "One event of the server's; comments keep the connection alive.",
    "properties": {
        "id": {"type": "string", "description": "What `Last-Event-ID` resumes after."},
        "event": {"type": "string", "enum": [str(each) for each in EventType]},
        "data": {"type": "string", "description": "A JSON object with `type`, `at` and more."},
    },
    "required": ["id", "event", "data"],
    "example": (
        "id: 5f2c81d0-7\n"
        "event: instance.status\n"
        'data: {"type": "instance.status", "at": "2026-05-04T03:02:01.000+00:00", '
        '"instance_id": "3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d", "status": "running", '
        '"before": "provisioning", "error_message": null}\n\n'
    ),
}

MEDIA_EXAMPLES = {
    "text/plain": "2026-05-04T03:02:01Z gateway: ready\n",
    "text/html": "<!doctype html>\n<title>chowder-local</title>\n",
    "text/event-stream": (
        "event: response.output_text.delta\n"
        'data: {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, '
        '"content_index": 0, "delta": "Hello!"}\n\n'
        "data: [DONE]\n\n"
    ),
    "application/octet-stream": "any bytes",
}
"""By media type: what such an answer looks like."""

REQUEST_ID = (
    "The request's id, which the server's log has, too: what the request's own header of that name "
    "says, if that is of 1 to 64 letters, digits, `.`, `_`, `~` and `-`, or else a new one."
)
QUEUE_POSITION = (
    "Its place among the instances that wait for their boot to begin, while it is one of them."
)
