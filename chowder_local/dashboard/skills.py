"""An instance's skills: their list, installation, state and settings."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.api.schemas.agent_contents import SkillChange, SkillInstallation
from chowder_local.dashboard.pages import (
    agent_part,
    form,
    instance_page,
    notice,
    parse_form,
    part,
    parts,
    with_query,
)
from chowder_local.http.bodies import json_of, parse_query, validated
from chowder_local.http.services import instance_of, running_instance_of, services

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.openclaw.skills import Skill

MACROS = "_skills.html"
READY, LACKING, DISABLED = KINDS = ("ready", "lacking", "disabled")
BOOLEANS = {"true": True, "false": False}


class SkillQuery(BaseModel):
    name: str = Field(min_length=1, max_length=1024)
    """A name may be any text, so it is a query parameter and not part of a path."""


class SkillForm(SkillQuery):
    row: bool = False
    """Whether the button is in the list instead of on the skill's page."""


@dataclass(frozen=True)
class SkillRow:
    """A skill of the list; `missing` has kinds of missing requirements with their names."""

    skill: Skill
    kind: str
    missing: tuple[tuple[str, str], ...]

    @classmethod
    def from_skill(cls, skill: Skill) -> SkillRow:
        if skill.is_ready:
            return cls(skill, READY, ())
        lists = {
            "variables": skill.missing_env,
            "programs": skill.missing_programs,
            "settings": skill.missing_settings,
            "another system": skill.systems,
        }
        missing = tuple((kind, ", ".join(names)) for kind, names in lists.items() if names)
        return cls(skill, DISABLED if skill.is_disabled else LACKING, missing)

    @property
    def id(self) -> str:
        """An HTML id; a skill's name may have characters that an id cannot have."""
        return hashlib.sha256(self.skill.name.encode("utf-8", "replace")).hexdigest()[:12]

    @property
    def address(self) -> str:
        """The address of the skill's page, below the list's address."""
        return with_query("/one", name=self.skill.name)

    @property
    def homepage(self) -> str | None:
        """The author's page, if it is safe to link."""
        return self.skill.homepage if self.skill.homepage.startswith("https://") else None


async def show(request: Request) -> Response:
    return await instance_page(request, "skills.html", await instance_of(request), tab="/skills")


async def index(request: Request) -> Response:
    async def render(instance: Instance) -> Response:
        return parts(await _table(request, instance))

    return await agent_part(request, "/skills/list", render)


async def install(request: Request) -> Response:
    instance = await running_instance_of(request)
    sent = await parse_form(request, SkillInstallation)
    installation = await services(request).skills.install(instance, sent.slug, {})
    table = await _table(request, instance)
    return notice(request, installation.message, part(request, MACROS, "replaced_table", table))


async def show_one(request: Request) -> Response:
    instance = await instance_of(request)
    name = parse_query(request, SkillQuery).name
    return await instance_page(
        request, "skill.html", instance, tab="/skills", name=name, details=_details_address(name)
    )


async def show_details(request: Request) -> Response:
    await instance_of(request)
    name = parse_query(request, SkillQuery).name

    async def render(instance: Instance) -> Response:
        return parts(await _sheet(request, instance, name))

    return await agent_part(request, _details_address(name), render)


async def change(request: Request) -> Response:
    """Changes a skill's settings on the running agent; no page shows their values."""
    instance = await running_instance_of(request)
    fields = await form(request)
    pressed = validated(SkillForm, fields, "body")
    sent = validated(SkillChange, _change(fields), "body")
    await services(request).skills.change(instance, pressed.name, sent.change)
    text = f"{pressed.name} is changed."
    if sent.enabled is not None:
        text = f"{pressed.name} is {'enabled' if sent.enabled else 'disabled'}."
    if not pressed.row:
        return notice(request, text, await _sheet(request, instance, pressed.name, oob=True))
    row = SkillRow.from_skill(await services(request).skills.get(instance, pressed.name))
    return notice(request, text, part(request, MACROS, "skill_row", instance, row, oob=True))


async def _table(request: Request, instance: Instance) -> Markup:
    rows = [
        SkillRow.from_skill(each) for each in await services(request).skills.list_skills(instance)
    ]
    # A thread renders the list, because a sandbox may list many skills.
    return await asyncio.to_thread(part, request, MACROS, "skill_table", instance, rows, KINDS)


async def _sheet(request: Request, instance: Instance, name: str, *, oob: bool = False) -> Markup:
    skills = services(request).skills
    skill = await skills.get(instance, name)
    settings = await skills.settings(instance, skill)
    return part(request, MACROS, "sheet", instance, SkillRow.from_skill(skill), settings, oob=oob)


def _details_address(name: str) -> str:
    return with_query("/skills/one/details", name=name)


def _change(fields: dict[str, str]) -> dict[str, Any]:
    """A form's fields as a `SkillChange`; empty fields change nothing."""
    change: dict[str, Any] = {}
    if "enabled" in fields:
        change["enabled"] = BOOLEANS.get(fields["enabled"], fields["enabled"])
    if "apiKey" in fields:
        change["apiKey"] = fields["apiKey"]
    env: dict[str, Any] = {
        name.removeprefix("env."): value
        for name, value in fields.items()
        if name.startswith("env.")
    }
    if "variable" in fields:
        env[fields["variable"]] = fields.get("value", "")
    if "config" in fields:
        change["config"] = json_of(fields["config"].encode())
    kind, _, removed = fields.get("remove", "").partition(".")
    if kind == "env":
        env[removed] = None
    elif kind == "config":
        change["config"] = {removed: None}
    elif kind:
        change["apiKey"] = None
    return change | ({"env": env} if env else {})
