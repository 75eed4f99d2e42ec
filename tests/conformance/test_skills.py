"""Skills: listed, read, configured and installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.rows import every_row
from tests.conformance.shapes import (
    INSTALLATION,
    SKILL,
    SKILL_DETAILS,
    answered,
    invalid,
    listed,
    refused,
)

if TYPE_CHECKING:
    from tests.conformance.client import Client

SLUG = "weather"
NAMELESS = "no-such-skill-conformance"


def test_skills_are_listed(api: Client, agent: str) -> None:
    skills = listed(api.get(f"instances/{agent}/skills"), SKILL)
    assert skills
    names = [each["name"] for each in skills]
    assert len(set(names)) == len(names)


def test_eligible_skills_are_a_part_of_all(api: Client, agent: str) -> None:
    path = f"instances/{agent}/skills"
    every = listed(api.get(path), SKILL)
    assert every == listed(api.get(f"{path}?eligible_only=false"), SKILL)
    ready = listed(api.get(f"{path}?eligible_only=true"), SKILL)
    assert {each["name"] for each in ready} <= {each["name"] for each in every}
    assert all(each["ready"] for each in ready)


def test_a_skill_is_shown_with_its_path(api: Client, agent: str) -> None:
    first = listed(api.get(f"instances/{agent}/skills"), SKILL)[0]
    shown = answered(api.get(f"instances/{agent}/skills/{first['name']}"), 200, SKILL_DETAILS)
    assert {name: shown[name] for name in SKILL} == first


def test_an_unknown_skill_is_not_found(api: Client, agent: str) -> None:
    path = f"instances/{agent}/skills/{NAMELESS}"
    refused(api.get(path), 404)


@pytest.mark.slow
def test_a_skill_can_be_switched_off_and_on(api: Client, agent: str) -> None:
    ready = listed(api.get(f"instances/{agent}/skills?eligible_only=true"), SKILL)
    if not ready:
        pytest.skip("The agent has no skill that is ready.")
    path = f"instances/{agent}/skills/{ready[0]['name']}"
    answered(api.patch(path, json={"enabled": False}), 204)
    assert answered(api.get(path), 200, SKILL_DETAILS)["ready"] is False
    answered(api.patch(path, json={"enabled": True}), 204)
    assert answered(api.get(path), 200, SKILL_DETAILS)["ready"] is True


@pytest.mark.slow
def test_the_settings_of_a_skill_can_be_changed(api: Client, agent: str) -> None:
    first = listed(api.get(f"instances/{agent}/skills"), SKILL)[0]
    body = {"env": {"CONFORMANCE": "1"}, "config": {"conformance": True}}
    answered(api.patch(f"instances/{agent}/skills/{first['name']}", json=body), 204)


def test_invalid_settings_are_refused(api: Client, agent: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"enabled": "neither"},
        {"env": "text"},
        {"env": {"A": 5}},
        {"config": "text"},
    ]
    first = listed(api.get(f"instances/{agent}/skills"), SKILL)[0]
    path = f"instances/{agent}/skills/{first['name']}"
    with every_row() as row:
        for body in bodies:
            with row(body):
                invalid(api.patch(path, json=body), "body", *body)


def test_an_installation_without_a_slug_is_refused(api: Client, agent: str) -> None:
    invalid(api.post(f"instances/{agent}/skills/install", json={}), "body", "slug")


def test_a_skill_that_clawhub_does_not_have_is_not_installed(api: Client, agent: str) -> None:
    answer = api.post(f"instances/{agent}/skills/install", json={"slug": NAMELESS})
    refused(answer, 400, 404, 409, 502)


def test_a_skill_is_installed_from_clawhub(api: Client, agent: str) -> None:
    answer = api.post(f"instances/{agent}/skills/install", json={"slug": SLUG})
    if answer.status_code == 502:
        pytest.skip(f"ClawHub cannot be reached from there: {refused(answer, 502)}")
    installed = answered(answer, 200, INSTALLATION)
    answered(api.get(f"instances/{agent}/skills/{installed['skill']}"), 200, SKILL_DETAILS)
