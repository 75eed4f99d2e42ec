"""How OpenClaw's answers about skills are read; other tests make the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted.programs import done

if TYPE_CHECKING:
    from tests.scripted.world import World


@pytest.mark.parametrize("skills", [None, [], ["what"], [{}], [{"name": None, "missing": 1}]])
async def test_malformed_skills_are_listed_as_not_ready(world: World, skills: Any) -> None:
    instance = await world.created()
    world.programs.answers["skills.status"] = done(skills=skills)
    skills_ = await world.skills.list_skills(instance)
    assert [each.name for each in skills_ if each.is_ready] == []
