"""Handlers: an agent's skills."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


async def index(request: Request) -> list[SkillView]:
    """The agent's skills, whether they came with OpenClaw, from ClawHub or as a folder."""
    query = parse_query(request, SkillQuery)
    found = await services(request).skills.list_skills(
        running_instance(request), is_ready_only=query.eligible_only
    )
    return [SkillView.of(each) for each in found]


async def show(request: Request) -> SkillDetailsView:
    """One skill."""
    agent = running_instance(request)
    skill = await services(request).skills.get(agent, request.path_params["skill_name"])
    return SkillDetailsView.of(skill)


async def install(request: Request) -> SkillInstallationView:
    """Installs a skill from ClawHub, as OpenClaw's own client does."""
    body = await parse(request, SkillInstallation)
    agent = running_instance(request)
    done = await services(request).skills.install(agent, body.slug, body.env or {})
    return SkillInstallationView.of(done)


async def change(request: Request) -> None:
    """Changes a skill's settings, live."""
    body = await parse(request, SkillChange)
    agent = running_instance(request)
    await services(request).skills.change(agent, request.path_params["skill_name"], body.change)
