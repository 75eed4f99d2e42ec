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
    """The agent's skills: OpenClaw's own, those from ClawHub, and those in its workspace."""
    query = parse_query(request, SkillQuery)
    skills = await services(request).skills.list_skills(
        await running_instance(request), is_ready_only=query.eligible_only
    )
    return [SkillView.model_validate(each) for each in skills]


async def show(request: Request) -> SkillDetailsView:
    """One skill."""
    agent = await running_instance(request)
    skill = await services(request).skills.get(agent, request.path_params["skill_name"])
    return SkillDetailsView.model_validate(skill)


async def install(request: Request) -> SkillInstallationView:
    """Installs a skill from ClawHub, as OpenClaw's own client does."""
    body = await parse(request, SkillInstallation)
    agent = await running_instance(request)
    installation = await services(request).skills.install(agent, body.slug, body.env or {})
    return SkillInstallationView.from_installation(installation)


async def change(request: Request) -> None:
    """Changes a skill's settings while the agent runs."""
    body = await parse(request, SkillChange)
    agent = await running_instance(request)
    await services(request).skills.change(agent, request.path_params["skill_name"], body.change)
