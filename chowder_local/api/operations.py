"""A row of the route table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.api.access import Access

    Handler = Callable[[Request], Awaitable[Response | BaseModel | Sequence[BaseModel] | None]]
    """A result that is not a response is sent as JSON, with the operation's status."""

IN_PATH = re.compile(r"\{(\w+)(:\w+)?\}")
SMALL_BODY_BYTES = 1024 * 1024
"""A longer body would hold the event loop while it is read, for a call that needs none such."""
MESSAGE_BODY_BYTES = 32 * 1024 * 1024
"""More than an agent's gateway takes, for conversations that are sent as a whole each time."""
PICTURE_BODY_BYTES = 10 * 1024 * 1024
"""Enough for one, in messages of channels and for tools of `/mcp`."""


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    `operation_id` names it in generated clients, which a change breaks. `body` is its model, or the
    media type of raw bytes. `answer` is the model of a successful response, a list of one, a media
    type or None; `events` is the model of a stream's events, if the answer is or may be a stream.
    `errors` are statuses besides those that follow from the access (401, 403, 404), the body (413,
    415, 422) and the query (422, and for any call under `/local`).
    `headers` are response headers besides those of every response. `python` is the method of the
    Python client, if its name does not follow from `operation_id` (`method_name`); `tool` is the
    tool of `/mcp`, if the call is one. `max_body_bytes` is None if its body may be as long as the
    server takes. `former_path` is that of 0.1, which works until 0.3.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    operation_id: str
    summary: str
    body: type[BaseModel] | str | None = None
    answer: type[BaseModel] | list[type[BaseModel]] | str | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    query: type[BaseModel] | None = None
    body_type: str = "application/json"
    events: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    python: str | None = None
    tool: str | None = None
    is_audited: bool = False
    max_body_bytes: int | None = SMALL_BODY_BYTES
    former_path: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether only a local server has the call, so that its input need not be as hosted."""
        return self.path.startswith("/local/")

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return IN_PATH.sub(r"{\1}", self.path)

    @property
    def method_name(self) -> str:
        """The method of the Python client; scripts/reference writes the plain ones."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.operation_id).lower()
        return self.python or words.removeprefix("get_").removeprefix("list_")

    @property
    def is_message(self) -> bool:
        """Whether it sends a message to an agent."""
        return self.path.endswith("/responses")

    @property
    def has_error(self) -> bool:
        """Whether its error responses have `error`, for clients of OpenAI's API."""
        return self.tag == "messages"

    @property
    def tag(self) -> str:
        """The subject, for grouping in the documentation."""
        if not self.path.startswith("/v1/"):
            return "local"
        subject, *below = [word for word in self.path.split("/")[2:] if "{" not in word]
        if not {"responses", "models"}.isdisjoint(below):
            return "messages"
        return below[0] if below and below[0] in {"channels", "skills", "files"} else subject
