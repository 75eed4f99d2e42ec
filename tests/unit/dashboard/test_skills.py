"""What the page says of a skill, whatever its author has written."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.dashboard.skills import DISABLED, LACKING, READY, SkillRow
from chowder_local.openclaw.skills import Skill


def skill(name: str = "pager", **more: Any) -> Skill:
    known: dict[str, Any] = {
        "name": name,
        "description": "Pages.",
        "source": "openclaw-workspace",
        "is_ready": False,
        "path": "/SKILL.md",
        "key": name,
        "folder": "/",
    }
    return Skill(**known | more)


def test_what_it_lacks_is_said_until_it_is_ready() -> None:
    lacking = SkillRow.of(
        skill(missing_env=("A", "B"), missing_programs=("jq",), missing_settings=("x",),
              systems=("darwin",))
    )  # fmt: skip
    assert lacking.kind == LACKING
    assert lacking.lacks == (
        ("variables", "A, B"),
        ("programs", "jq"),
        ("settings", "x"),
        ("another system", "darwin"),
    )
    ready = SkillRow.of(skill(is_ready=True, missing_programs=("one of these",)))
    assert (ready.kind, ready.lacks) == (READY, ())
    assert SkillRow.of(skill(is_disabled=True)).kind == DISABLED


@pytest.mark.parametrize("name", ["../../stop", "a b", "x&row=true", "größe", '"><script>'])
def test_any_name_is_an_id_and_an_address(name: str) -> None:
    row = SkillRow.of(skill(name))
    assert row.id.isalnum()
    path, _, query = row.address.partition("?name=")
    assert path == "/one"
    assert not set(query) & set('/<>" &=')


def test_only_pages_of_the_web_are_linked() -> None:
    assert (
        SkillRow.of(skill(homepage="https://pager.example/")).homepage == "https://pager.example/"
    )
    for homepage in ("javascript:alert(1)", "http://10.0.0.1/", "", "data:text/html,x"):
        assert SkillRow.of(skill(homepage=homepage)).homepage is None
