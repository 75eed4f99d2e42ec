"""Skills: listed, read, configured and installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.conformance.drift import answered, invalid, refused
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.drift import Judge

SLUG = "weather"
NAMELESS = "no-such-skill-conformance"


@pytest.mark.read_only
def test_skills_are_listed(api: ContractClient, present: str, judge: Judge) -> None:
    skills = answered(api.get(f"instances/{present}/skills"))
    assert skills
    names = [each["name"] for each in skills]
    assert len(set(names)) == len(names)
    judge("skill-list", not all(each["ready"] for each in skills))


@pytest.mark.read_only
def test_eligible_skills_are_a_part_of_all(api: ContractClient, present: str) -> None:
    path = f"instances/{present}/skills"
    every = answered(api.get(path))
    assert every == answered(api.get(f"{path}?eligible_only=false"))
    ready = answered(api.get(f"{path}?eligible_only=true"))
    assert {each["name"] for each in ready} <= {each["name"] for each in every}
    assert all(each["ready"] for each in ready)


@pytest.mark.read_only
def test_a_skill_is_shown_with_its_path(api: ContractClient, present: str) -> None:
    first = answered(api.get(f"instances/{present}/skills"))[0]
    shown = answered(api.get(f"instances/{present}/skills/{first['name']}"))
    assert {name: shown[name] for name in first} == first


@pytest.mark.read_only
def test_an_unknown_skill_is_not_found(api: ContractClient, present: str) -> None:
    refused(api.get(f"instances/{present}/skills/{NAMELESS}"), 404)


@pytest.mark.slow
def test_a_skill_can_be_switched_off_and_on(api: ContractClient, agent: str) -> None:
    ready = answered(api.get(f"instances/{agent}/skills?eligible_only=true"))
    if not ready:
        pytest.skip("The agent has no skill that is ready.")
    path = f"instances/{agent}/skills/{ready[0]['name']}"
    answered(api.patch(path, json={"enabled": False}))
    assert answered(api.get(path))["ready"] is False
    answered(api.patch(path, json={"enabled": True}))
    assert answered(api.get(path))["ready"] is True


@pytest.mark.slow
def test_the_settings_of_a_skill_can_be_changed(api: ContractClient, agent: str) -> None:
    first = answered(api.get(f"instances/{agent}/skills"))[0]
    body = {"env": {"CONFORMANCE": "1"}, "config": {"conformance": True}}
    answered(api.patch(f"instances/{agent}/skills/{first['name']}", json=body))


def test_invalid_settings_are_refused(api: ContractClient, agent: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"enabled": "neither"},
        {"env": "text"},
        {"env": {"A": 5}},
        {"config": "text"},
    ]
    first = answered(api.get(f"instances/{agent}/skills"))[0]
    path = f"instances/{agent}/skills/{first['name']}"
    with every_row() as row:
        for body in bodies:
            with row(body):
                invalid(api.patch(path, json=body), "body", *body)


def test_a_skill_that_clawhub_does_not_have_is_not_installed(
    api: ContractClient, agent: str, judge: Judge
) -> None:
    answer = api.post(f"instances/{agent}/skills/install", json={"slug": NAMELESS})
    judge("clawhub", answer.status_code)
    assert answer.is_error


def test_a_skill_is_installed_from_clawhub_by_its_bare_slug(
    api: ContractClient, agent: str, judge: Judge
) -> None:
    answer = api.post(f"instances/{agent}/skills/install", json={"slug": SLUG})
    if judge("slugs", answer.status_code) == 502:
        pytest.skip(f"ClawHub cannot be reached from there: {refused(answer, 502)}")
    installed = answered(answer)
    answered(api.get(f"instances/{agent}/skills/{installed['skill']}"))
