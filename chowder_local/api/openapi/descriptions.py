"""Texts of the document: introduction, tags, and descriptions that belong to no model."""

from __future__ import annotations

from chowder_local.api.schemas.responses import ResponseStreamEvent
from chowder_local.api.schemas.server import ServerEvent

SUMMARY = "The hosted OpenClaw agents API, on your own machine."

CONTACT = {"name": "chowder-local", "url": "https://github.com/chowder-local/chowder-local"}

ABOUT = """\
The calls under `/v1` are those of the hosted service, with the same shapes, statuses and errors.
Each instance is a container in which OpenClaw runs. The calls under `/local` exist only here.

- Bodies are JSON in UTF-8, sent with `Content-Type: application/json`. The server ignores members
  that a body's schema does not name; it passes those of a message on to the agent.
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
