"""Handlers: an instance's skills, listed, installed, switched and given what they need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from chowder_local.api.schemas.skills import SkillChange, SkillInstallation
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.lazy_fragment import answered, running_of
from chowder_local.dashboard.services import fragment
from chowder_local.dashboard.skill_rows import KINDS, line_of
from chowder_local.dashboard.tabs import instance_page
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import instance_of, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

TRUTHS = {"true": True, "false": False}


class Named(BaseModel):
    """A skill by its name, which may be any text, so it is no part of a path."""

    name: str = Field(min_length=1, max_length=1024)


class Row(BaseModel):
    """Where a button is: in the list, or else on the skill's own page."""

    row: bool = False


async def show(request: Request) -> Response:
    """The page; what the agent has to tell comes behind it."""
    return await instance_page(request, "skills.html", await instance_of(request), tab="/skills")


async def index(request: Request) -> Response:
    """All skills, to be searched in the page."""
    return await answered(request, "skill_list.html", _listed, again="/skills/list")


async def install(request: Request) -> Response:
    """Has OpenClaw install one from ClawHub."""
    instance = await running_of(request)
    sent = validated(SkillInstallation, await form(request), "body")
    done = await services(request).skills.install(instance, sent.slug, {})
    listed = await _listed(request, instance)
    return fragment(request, "skill_installed.html", it=instance, words=done.message, **listed)


async def details(request: Request) -> Response:
    """The page of one skill; what the agent has to tell of it comes behind it."""
    instance = await instance_of(request)
    name = parse_query(request, Named).name
    again = f"/skills/one/details?{urlencode({'name': name})}"
    return await instance_page(
        request, "skill.html", instance, tab="/skills", name=name, again=again
    )


async def detailed(request: Request) -> Response:
    """What there is to know of one, and the forms that change it."""
    await instance_of(request)
    name = parse_query(request, Named).name

    async def ask(request: Request, instance: Instance) -> dict[str, Any]:
        return await _detailed(request, instance, name)

    again = f"/skills/one/details?{urlencode({'name': name})}"
    return await answered(request, "skill_details.html", ask, again=again)


async def change(request: Request) -> Response:
    """Changes a skill's settings, live; no value is ever shown again."""
    instance = await running_of(request)
    fields = await form(request)
    name, row = validated(Named, fields, "body").name, validated(Row, fields, "body").row
    sent = validated(SkillChange, _change(fields), "body")
    await services(request).skills.change(instance, name, sent.change)
    found = await _detailed(request, instance, name)
    words = f"{name} is changed."
    if sent.enabled is not None:
        words = f"{name} is {'enabled' if sent.enabled else 'disabled'}."
    template = "skill_switched.html" if row else "skill_changed.html"
    return fragment(request, template, it=instance, words=words, **found)


async def _listed(request: Request, instance: Instance) -> dict[str, Any]:
    lines = [line_of(each) for each in await services(request).skills.list_skills(instance)]
    return {"lines": lines, "kinds": KINDS}


async def _detailed(request: Request, instance: Instance, name: str) -> dict[str, Any]:
    skills = services(request).skills
    skill = await skills.get(instance, name)
    return {"line": line_of(skill), "settings": await skills.settings(instance, skill)}


def _change(fields: dict[str, str]) -> dict[str, Any]:
    """What a form says of a skill's settings; of what was left empty it says nothing."""
    change: dict[str, Any] = {}
    if "enabled" in fields:
        change["enabled"] = TRUTHS.get(fields["enabled"], fields["enabled"])
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
    part, _, removed = fields.get("remove", "").partition(".")
    if part == "env":
        env[removed] = None
    elif part == "config":
        change["config"] = {removed: None}
    elif part:
        change["apiKey"] = None
    return change | ({"env": env} if env else {})


def _settings(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as broken:
        problem = {"loc": ["body", "config"], "msg": f"This is no JSON: {broken}", "type": "json"}
        raise InputInvalid([problem]) from None
