"""The 404 of a path that no route has, which says what to call instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.routing import Match

from chowder_local.api.endpoints import OperationsEndpoint
from chowder_local.core.errors.requests import RouteMissing

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_SHOWN_PATH = 400
_AGENT = re.compile(r"/instances/[\w-]{1,64}(?=/)")
_REPAIRS = (
    (re.compile(r"//+"), "/"),
    (re.compile(r"\A/v1(?=/local/)"), ""),
    # OpenAI's own base URL ends with /v1, so that clients add one.
    (re.compile(r"\A(?:/v1)*(?!/local/)"), "/v1"),
    (re.compile(r"(/instances/[^/]+)/v1/"), r"\1/"),
    (re.compile(r"/responses/responses\Z"), "/responses"),
)
"""What base URLs of clients often have wrong."""
_ADVICE = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (
            r"/completions\Z",
            "Agents speak the Responses API, not Chat Completions. POST to {agent}/responses "
            "instead; with OpenAI's SDKs that is client.responses.create.",
        ),
        (
            r"\A/v1/responses\b",
            "Each agent has an address of its own: POST to {agent}/responses. With OpenAI's SDKs, "
            "let the base URL end with {agent}. GET /v1/instances lists the ids.",
        ),
        (
            r"/responses/input_tokens\Z",
            "Tokens are not counted in advance. The answer of POST {agent}/responses has them in "
            "`usage`.",
        ),
        (
            r"/responses/compact\Z",
            "A conversation is not compacted on request: the agent does it when it has to. POST "
            "the next message to {agent}/responses.",
        ),
        (
            r"/responses/[^/]+/cancel\Z",
            "To cancel a message, close the connection of its POST {agent}/responses.",
        ),
        (
            r"/responses/.",
            "Answers cannot be read or deleted by their id. GET {local}/transcript has the "
            "conversation, GET {local}/traces/{{response_id}} what the agent did for an answer.",
        ),
        (
            r"/conversations\b",
            "A conversation is a session with a name that you choose: POST to "
            "{agent}/session/{{name}}/responses. The first message creates it.",
        ),
        (
            r"/session/responses\Z",
            "The session's name is missing: POST to {agent}/session/{{name}}/responses.",
        ),
        (
            r"\A/v1(/instances/[^/]+(/session/.+)?)?/models\b",
            "GET {agent}/models lists the models.",
        ),
        (
            r"/(assistants|audio|batches|embeddings|evals|fine_tuning|images|moderations|realtime|"
            r"threads|uploads|vector_stores|videos)\b",
            "An agent answers messages and does nothing else of OpenAI's API: POST to "
            "{agent}/responses, and call the model provider itself for the rest.",
        ),
    )
)
"""What clients of OpenAI's API call, below the repaired path; the first pattern counts."""


async def refuse_missing_route(scope: Scope, _: Receive, __: Send) -> NoReturn:
    """Raises RouteMissing if something else can be called, HTTPException if nothing is known."""
    path: str = scope["path"]
    repaired = path
    for pattern, replacement in _REPAIRS:
        repaired = pattern.sub(replacement, repaired, count=0 if replacement == "/" else 1)
    if _is_served(scope, repaired) and len(repaired) <= MAX_SHOWN_PATH:
        call = f"{scope['method']} {quote(repaired)}"
        raise RouteMissing(f"Call {call} instead: the client's base URL is wrong.")
    agent = found[0] if (found := _AGENT.search(repaired)) else "/instances/{id}"
    for pattern, advice in _ADVICE:
        if pattern.search(repaired):
            raise RouteMissing(advice.format(agent=f"/v1{agent}", local=f"/local{agent}"))
    is_of_api = re.match(r"/(v1|local)(/|\Z)", path)
    words = "No call has this path. /docs shows all calls, /openapi.json has them."
    raise HTTPException(404, words if is_of_api else None)


def _is_served(scope: Scope, path: str) -> bool:
    """Whether the API has a call with the request's method and this path."""
    return path != scope["path"] and any(
        isinstance(route.endpoint, OperationsEndpoint)
        and route.matches({**scope, "path": path, "root_path": ""})[0] is Match.FULL
        for route in scope["router"].routes
        if hasattr(route, "endpoint")
    )
