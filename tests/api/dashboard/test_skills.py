"""An instance's skills: list, settings and installation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.dashboard.conftest import Elements
from tests.api.test_skills import PAGER, WEATHER, entry, needing, set_clawhub, set_skills
from tests.scripted.gateway import ok

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'
NEEDY = needing("pager", "PAGER_KEY", "PAGER_ROOM", missing=()) | {"primaryEnv": "PAGER_KEY"}


@pytest.fixture
async def path(visitor: Visitor) -> str:
    instance = await visitor.http.world.created()
    return f"/instances/{instance.id}/skills"


def set_settings(visitor: Visitor, **settings: Any) -> None:
    """Sets the pager's settings in the configuration."""
    source = {"skills": {"entries": {"pager": settings}}}
    visitor.http.world.gateway.rpc_answers["config.get"] = ok({"hash": "h", "sourceConfig": source})


def changes(visitor: Visitor) -> list[dict[str, Any]]:
    patches = visitor.http.world.gateway.called("config.patch")
    return [json.loads(each["raw"])["skills"]["entries"] for each in patches]


async def test_the_list_shows_each_skill_with_its_missing_requirements(
    visitor: Visitor, path: str
) -> None:
    off = entry("off", disabled=True, eligible=False)
    set_skills(visitor.http.world, WEATHER, PAGER, off, entry("evil", description=HOSTILE))
    assert f'hx-get="{path}/list"' in (await visitor.get(path)).text
    html = (await visitor.get(f"{path}/list")).text
    elements = Elements(html)
    kinds = [each["data-kind"] for each in elements.all("tr") if "data-kind" in each]
    assert kinds == ["ready", "disabled", "lacking", "ready"]
    assert "needs variables: PAGER_KEY" in html
    # An author's description is shown as text.
    assert "alert(1)" in html
    assert not elements.all("script")
    assert not elements.all("img")
    assert "{{ 7*7 }}" in html


async def test_a_skills_name_is_never_part_of_a_path(visitor: Visitor, path: str) -> None:
    set_skills(visitor.http.world, entry("../../stop"), entry(HOSTILE))
    elements = Elements((await visitor.get(f"{path}/list")).text)
    assert {each["hx-post"] for each in elements.all("form") if "hx-post" in each} == {
        f"{path}/one"
    }
    links = [each["href"] or "" for each in elements.all("a")]
    assert all(each.startswith(f"{path}/one?name=") for each in links)
    for link in links:
        assert (await visitor.get(link)).status_code == 200
        details = await visitor.get(link.replace("/one?", "/one/details?"))
        assert details.status_code == 200
        assert not Elements(details.text).all("script")


async def test_a_skill_is_disabled_and_enabled(visitor: Visitor, path: str) -> None:
    set_settings(visitor)
    for enabled, words in (("false", "disabled"), ("true", "enabled")):
        set_skills(visitor.http.world, WEATHER | {"disabled": enabled == "false"})
        form = {"name": "weather", "enabled": enabled, "row": "true"}
        answer = await visitor.post(f"{path}/one", form)
        assert answer.status_code == 200, answer.text
        assert f"weather is {words}." in answer.text
        assert [each for each in Elements(answer.text).all("tr") if "data-kind" in each]
    assert changes(visitor) == [{"weather": {"enabled": False}}, {"weather": {"enabled": True}}]


async def test_a_skills_page_names_its_settings_without_their_values(
    visitor: Visitor, path: str
) -> None:
    set_skills(visitor.http.world, NEEDY | {"homepage": "https://pager.example/"})
    env = {"PAGER_ROOM": "hush-room", "OTHER": "hush-other"}
    set_settings(visitor, apiKey="hush-key", env=env, config={"units": "hush-units"})
    page = await visitor.get(f"{path}/one?name=pager")
    assert f"{path}/one/details?name=pager" in page.text
    html = (await visitor.get(f"{path}/one/details?name=pager")).text
    assert "hush" not in html
    elements = Elements(html)
    secret = {each["name"] for each in elements.all("input", type="password")}
    assert secret == {"apiKey", "env.PAGER_ROOM", "value"}
    removals = {each["value"] for each in elements.all("input", name="remove")}
    assert removals == {"apiKey", "env.PAGER_ROOM", "env.OTHER", "config.units"}
    assert elements.all("a", href="https://pager.example/")


TYPED: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"apiKey": "k"}, {"apiKey": "k"}),
    ({"env.PAGER_ROOM": "kitchen"}, {"env": {"PAGER_ROOM": "kitchen"}}),
    ({"variable": "A", "value": "1"}, {"env": {"A": "1"}}),
    ({"config": '{"units": "metric"}'}, {"config": {"units": "metric"}}),
    ({"remove": "apiKey"}, {"apiKey": None}),
    ({"remove": "env.PAGER_ROOM"}, {"env": {"PAGER_ROOM": None}}),
    ({"remove": "config.a.b"}, {"config": {"a.b": None}}),
]


async def test_filled_fields_change_a_skill_and_empty_fields_do_not(
    visitor: Visitor, path: str
) -> None:
    set_skills(visitor.http.world, NEEDY)
    set_settings(visitor)
    empty = {"apiKey": "", "env.PAGER_KEY": "", "variable": "", "value": "", "config": ""}
    for fields, _ in TYPED:
        answer = await visitor.post(f"{path}/one", {"name": "pager"} | empty | fields)
        assert answer.status_code == 200, (fields, answer.text)
        assert "pager is changed." in answer.text, fields
        for value in fields.values():
            assert f'value="{value}"' not in answer.text or "remove" in fields, fields
    assert changes(visitor) == [{"pager": change} for _, change in TYPED]


SENSELESS: list[dict[str, str]] = [
    {"name": "pager"},
    {"enabled": "false"},
    {"name": "pager", "enabled": "perhaps"},
    {"name": "pager", "config": "{"},
    {"name": "pager", "config": '{"a": NaN}'},
    {"name": "pager", "config": '{"a": "\\ud800"}'},
    {"name": "pager", "config": "[1]"},
    {"name": "pager", "variable": "no name", "value": "x"},
]


async def test_an_invalid_form_changes_no_skill(visitor: Visitor, path: str) -> None:
    set_skills(visitor.http.world, NEEDY)
    for fields in SENSELESS:
        assert (await visitor.post(f"{path}/one", fields)).status_code == 422, fields
        assert changes(visitor) == [], fields


async def test_a_skill_is_installed_from_clawhub(visitor: Visitor, path: str) -> None:
    set_clawhub(visitor.http.world, "weather", [WEATHER])
    answer = await visitor.post(path, {"slug": "weather"})
    assert answer.status_code == 200, answer.text
    assert "Installed weather@1.0.0." in answer.text
    assert "About weather." in answer.text
