"""The document's own words: what the whole is, its subjects, and texts that have no model."""

from __future__ import annotations

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
  `{"detail": [{"loc": […], "msg": "…", "type": "…"}]}`.
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

QUEUE_POSITION = (
    "Its place among the instances that wait for their boot to begin, while it is one of them."
)
