"""Rows of skills, whatever their authors have written."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.dashboard.skills import DISABLED, LACKING, READY, SkillRow
from chowder_local.openclaw.skills import Skill


def skill(name: str = "pager", **more: Any) -> Skill:
    defaults: dict[str, Any] = {
        "name": name,
        "description": "Pages.",
        "source": "openclaw-workspace",
        "is_ready": False,
        "path": "/SKILL.md",
        "key": name,
        "folder": "/",
    }
    return Skill(**defaults | more)


def test_a_skill_lists_missing_requirements_until_it_is_ready() -> None:
    lacking = SkillRow.from_skill(
        skill(missing_env=("A", "B"), missing_programs=("jq",), missing_settings=("x",),
              systems=("darwin",))
    )  # fmt: skip
    assert lacking.kind == LACKING
    assert lacking.missing == (
        ("variables", "A, B"),
        ("programs", "jq"),
        ("settings", "x"),
        ("another system", "darwin"),
    )
    ready = SkillRow.from_skill(skill(is_ready=True, missing_programs=("one of these",)))
    assert (ready.kind, ready.missing) == (READY, ())
    assert SkillRow.from_skill(skill(is_disabled=True)).kind == DISABLED


@pytest.mark.parametrize("name", ["../../stop", "a b", "x&row=true", "größe", '"><script>'])
def test_any_name_has_a_valid_id_and_address(name: str) -> None:
    row = SkillRow.from_skill(skill(name))
    assert row.id.isalnum()
    path, _, query = row.address.partition("?name=")
    assert path == "/one"
    assert not set(query) & set('/<>" &=')


def test_only_https_home_pages_are_linked() -> None:
    assert (
        SkillRow.from_skill(skill(homepage="https://pager.example/")).homepage
        == "https://pager.example/"
    )
    for homepage in ("javascript:alert(1)", "http://10.0.0.1/", "", "data:text/html,x"):
        assert SkillRow.from_skill(skill(homepage=homepage)).homepage is None
