"""What OpenClaw's answers about skills are taken for; the calls are tried elsewhere."""

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
async def test_a_list_that_makes_little_sense_is_no_defect_of_ours(
    world: World, skills: Any
) -> None:
    instance = await world.created()
    world.programs.answers["skills.status"] = done(skills=skills)
    found = await world.skills.list_skills(instance)
    assert [each.name for each in found if each.is_ready] == []


@pytest.mark.parametrize(
    ("slug", "asked"),
    [("weather", "weather"), ("@who/weather", "weather"), ("skills-sh:a/b/c", "c")],
)
async def test_clawhub_is_asked_for_the_skill_before_openclaw_is(
    world: World, slug: str, asked: str
) -> None:
    instance = await world.created()
    world.programs.answers[REACH] = {"url": "https://clawhub.ai", "error": "ENOTFOUND"}
    with pytest.raises(ClawHubUnavailable, match=r"https://clawhub\.ai cannot be reached"):
        await world.skills.install(instance, slug, {})
    assert world.programs.called(REACH) == [{"slug": asked, "timeoutMs": 5000}]


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ('Skill "x" not found on ClawHub.', SkillNotFound),
        ("ClawHub rate limit reached while installing skill.", ClawHubUnavailable),
        ("ClawHub is temporarily unavailable while installing skill.", ClawHubUnavailable),
        ("ClawHub blocked this release; install was not started.", SkillRefused),
    ],
)
async def test_words_tell_what_went_wrong(
    world: World, words: str, failure: type[Exception]
) -> None:
    instance = await world.created()
    world.programs.answers |= {REACH: {"status": 200}, "skills.install": undone(words)}
    with pytest.raises(failure):
        await world.skills.install(instance, "x", {})


async def test_a_sandbox_that_does_not_say_whether_it_is_online_is_not_waited_for(
    world: World,
) -> None:
    instance = await world.created()
    world.programs.failing = TimeoutError()
    with pytest.raises(GatewayUnavailable, match="online"):
        await world.skills.install(instance, "x", {})
