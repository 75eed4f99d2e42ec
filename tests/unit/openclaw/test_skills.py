"""How OpenClaw's answers about skills are read; other tests make the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors.agents import (
    ClawHubUnavailable,
    GatewayUnavailable,
    SkillNotFound,
    SkillRefused,
)
from tests.scripted.programs import REACH, done, undone
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize("skills", [None, [], ["what"], [{}], [{"name": None, "missing": 1}]])
async def test_malformed_skills_are_listed_as_not_ready(world: World, skills: Any) -> None:
    instance = await world.created()
    world.programs.answers["skills.status"] = done(skills=skills)
    skills_ = await world.skills.list_skills(instance)
    assert [each.name for each in skills_ if each.is_ready] == []


@pytest.mark.parametrize(
    ("slug", "requested_slug"),
    [("weather", "weather"), ("@who/weather", "weather"), ("skills-sh:a/b/c", "c")],
)
async def test_clawhub_is_probed_before_the_installation(
    world: World, slug: str, requested_slug: str
) -> None:
    instance = await world.created()
    world.programs.answers[REACH] = {"url": "https://clawhub.ai", "error": "ENOTFOUND"}
    with pytest.raises(ClawHubUnavailable, match=r"https://clawhub\.ai cannot be reached"):
        await world.skills.install(instance, slug, {})
    assert world.programs.called(REACH) == [{"slug": requested_slug, "timeoutMs": 5000}]


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ('Skill "x" not found on ClawHub.', SkillNotFound),
        ("ClawHub rate limit reached while installing skill.", ClawHubUnavailable),
        ("ClawHub is temporarily unavailable while installing skill.", ClawHubUnavailable),
        ("ClawHub blocked this release; install was not started.", SkillRefused),
    ],
)
async def test_openclaws_message_selects_the_error(
    world: World, message: str, failure: type[Exception]
) -> None:
    instance = await world.created()
    world.programs.answers |= {REACH: {"status": 200}, "skills.install": undone(message)}
    with pytest.raises(failure):
        await world.skills.install(instance, "x", {})


async def test_a_clawhub_probe_that_exceeds_its_timeout_fails(
    world: World,
) -> None:
    instance = await world.created()
    world.programs.failing = TimeoutError()
    with pytest.raises(GatewayUnavailable, match="did not report in time"):
        await world.skills.install(instance, "x", {})
