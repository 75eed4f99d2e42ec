"""An instance's skills: listed, installed, enabled and disabled, and their settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.api.schemas.skills import SkillChange, SkillInstallation
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.dashboard.forms import form, parse_form, with_query
from chowder_local.dashboard.pages import agent_part, instance_page, notice, part, parts
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import instance_of, running, services

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.openclaw.skills import Skill

MACROS = "_skills.html"
READY, LACKING, DISABLED = KINDS = ("ready", "lacking", "disabled")
BOOLEANS = {"true": True, "false": False}


class SkillNamed(BaseModel):
    name: str = Field(min_length=1, max_length=1024)
    """Any text, so it is no part of a path."""


class Pressed(SkillNamed):
    row: bool = False
    """Whether the button is in the list, and not on the skill's own page."""


@dataclass(frozen=True)
class SkillRow:
    """A skill of the list; `lacks` are the kinds of what would make it ready, and their names."""

    skill: Skill
    kind: str
    lacks: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, skill: Skill) -> SkillRow:
        if skill.is_ready:
            return cls(skill, READY, ())
        lists = {
            "variables": skill.missing_env,
            "programs": skill.missing_programs,
            "settings": skill.missing_settings,
            "another system": skill.systems,
        }
        lacks = tuple((kind, ", ".join(names)) for kind, names in lists.items() if names)
        return cls(skill, DISABLED if skill.is_disabled else LACKING, lacks)

    @property
    def id(self) -> str:
        """An element's id, which a skill's name cannot be."""
        return hashlib.sha256(self.skill.name.encode("utf-8", "replace")).hexdigest()[:12]

    @property
    def address(self) -> str:
        """Of its page, below the list's."""
        return with_query("/one", name=self.skill.name)

    @property
    def homepage(self) -> str | None:
        """Its author's page, if it is safe to link."""
        return self.skill.homepage if self.skill.homepage.startswith("https://") else None


async def show(request: Request) -> Response:
    return await instance_page(request, "skills.html", await instance_of(request), tab="/skills")


async def index(request: Request) -> Response:
    async def render(instance: Instance) -> Response:
        return parts(await _table(request, instance))

    return await agent_part(request, "/skills/list", render)


async def install(request: Request) -> Response:
    instance = running(await instance_of(request))
    sent = await parse_form(request, SkillInstallation)
    done = await services(request).skills.install(instance, sent.slug, {})
    table = await _table(request, instance)
    return notice(request, done.message, part(request, MACROS, "replaced_table", table))


async def show_one(request: Request) -> Response:
    instance = await instance_of(request)
    name = parse_query(request, SkillNamed).name
    return await instance_page(
        request, "skill.html", instance, tab="/skills", name=name, details=_details_address(name)
    )


async def show_details(request: Request) -> Response:
    await instance_of(request)
    name = parse_query(request, SkillNamed).name

    async def render(instance: Instance) -> Response:
        return parts(await _sheet(request, instance, name))

    return await agent_part(request, _details_address(name), render)


async def change(request: Request) -> Response:
    """Changes a skill's settings on the running agent; their values are never shown."""
    instance = running(await instance_of(request))
    fields = await form(request)
    pressed = validated(Pressed, fields, "body")
    sent = validated(SkillChange, _change(fields), "body")
    await services(request).skills.change(instance, pressed.name, sent.change)
    text = f"{pressed.name} is changed."
    if sent.enabled is not None:
        text = f"{pressed.name} is {'enabled' if sent.enabled else 'disabled'}."
    if not pressed.row:
        return notice(request, text, await _sheet(request, instance, pressed.name, oob=True))
    row = SkillRow.of(await services(request).skills.get(instance, pressed.name))
    return notice(request, text, part(request, MACROS, "skill_row", instance, row, oob=True))


async def _table(request: Request, instance: Instance) -> Markup:
    rows = [SkillRow.of(each) for each in await services(request).skills.list_skills(instance)]
    return part(request, MACROS, "skill_table", instance, rows, KINDS)


async def _sheet(request: Request, instance: Instance, name: str, *, oob: bool = False) -> Markup:
    skills = services(request).skills
    skill = await skills.get(instance, name)
    settings = await skills.settings(instance, skill)
    return part(request, MACROS, "sheet", instance, SkillRow.of(skill), settings, oob=oob)


def _details_address(name: str) -> str:
    return with_query("/skills/one/details", name=name)


def _change(fields: dict[str, str]) -> dict[str, Any]:
    """A form's change of a skill's settings; empty fields change nothing."""
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
        change["config"] = _settings(fields["config"])
    kind, _, removed = fields.get("remove", "").partition(".")
    if kind == "env":
        env[removed] = None
    elif kind == "config":
        change["config"] = {removed: None}
    elif kind:
        change["apiKey"] = None
    return change | ({"env": env} if env else {})


def _settings(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as invalid:
        problem = {"loc": ["body", "config"], "msg": f"This is no JSON: {invalid}", "type": "json"}
        raise InputInvalid([problem]) from None
