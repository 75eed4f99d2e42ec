"""Handlers: what the offline model says instead, for an organization or one instance."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from chowder_local.api.schemas.replies import ReplyScriptChange, ScriptView
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.core.json_paths import written_path
from chowder_local.http.bodies import json_body, validated
from chowder_local.http.services import caller, instance_of, services
from chowder_local.relay.scripts.rules import MAX_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.relay.scripts.registry import Owner, Running


async def show(request: Request) -> JSONResponse:
    """The script, how often each of its rules has counted, and what none was about."""
    return _shown(request, await _owner(request))


async def put(request: Request) -> JSONResponse:
    """Puts a script in force from its beginning, in place of the present one.

    Of an instance's rules, its organization's and the server's own (`up --replies`), the first
    that matches counts. A script ends with the server.
    """
    owner = await _owner(request)
    content = await json_body(request, MAX_BYTES)
    # Regular expressions are compiled, which takes its time.
    script = await asyncio.to_thread(_validated, content)
    services(request).scripts.put(owner, script)
    return _shown(request, owner)


async def remove(request: Request) -> Response:
    """Ends the script, if there is one."""
    services(request).scripts.remove(await _owner(request))
    return Response(status_code=204)


def _validated(content: Any) -> ReplyScriptChange:
    """Raises InputInvalid, with places as they are written: without the kinds of a union."""
    try:
        return validated(ReplyScriptChange, content, "body")
    except InputInvalid as invalid:
        for problem in invalid.problems:
            path = written_path(content, problem["loc"][1:], problem["type"])
            problem["loc"] = ["body", *path]
        raise


async def _owner(request: Request) -> Owner:
    if "instance_id" in request.path_params:
        return (await instance_of(request)).id
    return caller(request).organization_id


def _shown(request: Request, owner: Owner) -> JSONResponse:
    scripts = services(request).scripts
    return JSONResponse(
        {
            "own": _view(request, scripts.of(owner)),
            "server": _view(request, scripts.own),
        }
    )


def _view(request: Request, running: Running | None) -> dict[str, Any] | None:
    if running is None:
        return None
    return ScriptView.of(running, caller(request).organization_id).as_given()
