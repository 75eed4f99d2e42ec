"""Skills of a real agent: from a stand-in for ClawHub, and as a folder in its workspace."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.api import Api
    from tests.e2e.clawhub import ClawHub
    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

pytestmark = pytest.mark.docker

SECONDS = 8.0
"""Within seconds: OpenClaw's own client takes fourteen, or twenty."""


def skill_text(name: str, description: str, **metadata: Any) -> str:
    lines = ["---", f"name: {name}", f"description: {description}"]
    if metadata:
        lines.append(f"metadata: {json.dumps({'openclaw': metadata})}")
    return "\n".join([*lines, "---", f"# {name}", ""])


@pytest.fixture
def slug() -> str:
    """A name that no other test has used."""
    return f"skill-{secrets.token_hex(4)}"


@pytest.fixture
def skills(patient: str) -> str:
    return f"instances/{patient}/skills"


def listed(api: Api, skills: str, name: str) -> dict[str, Any] | None:
    answer = api.get(skills)
    assert answer.status_code == 200, answer.text
    return next((each for each in answer.json() if each["name"] == name), None)


def installed(api: Api, skills: str, slug: str, **more: Any) -> dict[str, Any]:
    answer = api.post(f"{skills}/install", json={"slug": slug, **more})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def prompt(keyed: Api, instance_id: str, stand_in: StandIn) -> str:
    """What the model is told when a conversation begins."""
    stand_in.requests.clear()
    keyed.say(instance_id, "Hello.", session=secrets.token_hex(4))
    return "\n".join(each.body for each in stand_in.requests)


def test_a_skill_from_clawhub_is_used_until_it_is_disabled(
    keyed: Api, patient: str, skills: str, clawhub: ClawHub, stand_in: StandIn, slug: str
) -> None:
    clawhub.skills[slug] = skill_text(slug, "Knows where the keys are.")
    made = installed(keyed, skills, slug)
    assert (made["skill"], made["status"], made["required_env"]) == (slug, "installed", [])
    assert listed(keyed, skills, slug) == {
        "name": slug,
        "description": "Knows where the keys are.",
        "source": "openclaw-workspace",
        "ready": True,
    }
    assert "Knows where the keys are." in prompt(keyed, patient, stand_in)
    again = keyed.post(f"{skills}/install", json={"slug": slug})
    assert (again.status_code, again.json()["detail"]) == (
        409,
        f"Skill '{slug}' is installed already.",
    )
    assert keyed.patch(f"{skills}/{slug}", json={"enabled": False}).status_code == 204
    assert (listed(keyed, skills, slug) or {})["ready"] is False
    assert slug not in prompt(keyed, patient, stand_in)
    assert keyed.patch(f"{skills}/{slug}", json={"enabled": None}).status_code == 204
    assert (listed(keyed, skills, slug) or {})["ready"] is True


def test_a_skill_is_ready_once_it_has_what_it_needs(
    api: Api, skills: str, clawhub: ClawHub, server: ServerProcess, slug: str
) -> None:
    requires = {"env": ["PAGER_KEY", "PAGER_ROOM"]}
    clawhub.skills[slug] = skill_text(slug, "Pages.", requires=requires, primaryEnv="PAGER_KEY")
    made = installed(api, skills, slug, env={"PAGER_ROOM": "planted-room"})
    assert made["status"] == "installed_missing_env"
    assert (made["env_applied"], made["required_env"]) == (["PAGER_ROOM"], requires["env"])
    assert "PAGER_KEY" in made["message"]
    assert api.get(f"{skills}/{slug}").json()["ready"] is False
    changed = api.patch(f"{skills}/{slug}", json={"apiKey": "planted-key"})
    assert changed.status_code == 204, changed.text
    assert api.get(f"{skills}/{slug}").json()["ready"] is True
    assert api.patch(f"{skills}/{slug}", json={"env": {"PAGER_ROOM": ""}}).status_code == 204
    assert api.get(f"{skills}/{slug}").json()["ready"] is False
    for secret in ("planted-room", "planted-key"):
        assert secret not in server.log()


def test_a_clawhub_that_fails_is_told_within_seconds(
    api: Api, skills: str, slug: str, clawhub: ClawHub
) -> None:
    clawhub.skills[slug] = skill_text(slug, "Never arrives.")
    began = time.monotonic()
    with clawhub.failing(503):
        answer = api.post(f"{skills}/install", json={"slug": slug})
    assert answer.status_code == 502
    assert "answered 503. Nothing was installed." in answer.json()["detail"]["error"]
    with clawhub.gone():
        answer = api.post(f"{skills}/install", json={"slug": slug})
    assert answer.status_code == 502
    assert "cannot be reached" in answer.json()["detail"]["error"]
    assert time.monotonic() - began < SECONDS
    assert listed(api, skills, slug) is None


def test_a_folder_in_the_workspace_is_a_skill(
    keyed: Api,
    patient: str,
    skills: str,
    stand_in: StandIn,
    slug: str,
    write_skill: Callable[[str, str], None],
) -> None:
    write_skill(slug, skill_text(slug, "Can juggle seven balls."))
    found = listed(keyed, skills, slug) or {}
    assert (found["source"], found["ready"]) == ("openclaw-workspace", True)
    assert "Can juggle seven balls." in prompt(keyed, patient, stand_in)
