"""How OpenClaw's answers about skills are read; other tests make the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted.programs import done
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
