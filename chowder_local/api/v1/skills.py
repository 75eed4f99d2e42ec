"""Handlers: an agent's skills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.api.schemas.skills import (
    SkillChange,
    SkillDetailsView,
    SkillInstallation,
    SkillInstallationView,
    SkillQuery,
    SkillView,
)
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.services import running_instance, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def index(request: Request) -> JSONResponse:
    """The agent's skills, whether they came with OpenClaw, from ClawHub or as a folder."""
    query = parse_query(request, SkillQuery)
    found = await services(request).skills.list_skills(
        running_instance(request), is_ready_only=query.eligible_only
    )
    return JSONResponse([SkillView.of(each).model_dump(mode="json") for each in found])


async def show(request: Request) -> JSONResponse:
    """One skill."""
    agent = running_instance(request)
    skill = await services(request).skills.get(agent, request.path_params["skill_name"])
    return JSONResponse(SkillDetailsView.of(skill).model_dump(mode="json"))


async def install(request: Request) -> JSONResponse:
    """Installs a skill from ClawHub, as OpenClaw's own client does."""
    body = await parse(request, SkillInstallation)
    agent = running_instance(request)
    done = await services(request).skills.install(agent, body.slug, body.env or {})
    return JSONResponse(SkillInstallationView.of(done).model_dump(mode="json"))


async def change(request: Request) -> Response:
    """Changes a skill's settings, live."""
    body = await parse(request, SkillChange)
    agent = running_instance(request)
    await services(request).skills.change(agent, request.path_params["skill_name"], body.change)
    return Response(status_code=204)
