"""Skills over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.openclaw import skills
from tests.scripted.gateway import ok, refused
from tests.scripted.programs import REACH, done, undone

if TYPE_CHECKING:
    import httpx

    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api
    from tests.scripted.world import World

HOME = "/data/.openclaw/workspace/skills"


def entry(name: str, **more: Any) -> dict[str, Any]:
    known = {
        "name": name,
        "description": f"About {name}.",
        "source": "openclaw-workspace",
        "skillKey": name,
        "filePath": f"{HOME}/{name}/SKILL.md",
        "baseDir": f"{HOME}/{name}",
        "eligible": True,
        "requirements": {"env": [], "bins": []},
        "missing": {"env": [], "bins": []},
    }
    return known | more


def needing(name: str, *variables: str, missing: tuple[str, ...]) -> dict[str, Any]:
    return entry(
        name,
        eligible=not missing,
        requirements={"env": list(variables), "bins": []},
        missing={"env": list(missing), "bins": []},
    )


WEATHER = entry("weather")
PAGER = needing("pager", "PAGER_KEY", "PAGER_ROOM", missing=("PAGER_KEY",))


def set_skills(world: World, *entries: dict[str, Any]) -> None:
    world.programs.answers["skills.status"] = done(skills=list(entries))


def set_clawhub(world: World, slug: str, *afterwards: list[dict[str, Any]]) -> None:
    """Makes ClawHub answer for the skill; `afterwards` are the agent's skills from then on."""
    world.programs.answers |= {
        REACH: {"url": "https://clawhub.ai", "status": 200},
        "skills.install": done(
            message=f"Installed {slug}@1.0.0", slug=slug, targetDir=f"{HOME}/{slug}"
        ),
        "skills.status": [done(skills=each) for each in afterwards],
    }


@pytest.fixture
async def path(world: World) -> str:
    instance = await world.created()
    return f"/v1/instances/{instance.id}/skills"


async def test_skills_are_listed_by_name(http: Api, path: str) -> None:
    set_skills(http.world, WEATHER, PAGER)
    answer = await http.get(path)
    assert answer.status_code == 200
    source = "openclaw-workspace"
    assert answer.json() == [
        {"name": "pager", "description": "About pager.", "source": source, "ready": False},
        {"name": "weather", "description": "About weather.", "source": source, "ready": True},
    ]


async def test_skills_that_are_not_ready_can_be_left_out(http: Api, path: str) -> None:
    set_skills(http.world, WEATHER, PAGER, entry("kept", blockedByAgentFilter=True))
    result = (await http.get(f"{path}?eligible_only=true")).json()
    assert [each["name"] for each in result] == ["weather"]
    assert len((await http.get(f"{path}?eligible_only=false")).json()) == 3


async def test_an_invalid_boolean_is_refused(http: Api, path: str) -> None:
    answer = await http.get(f"{path}?eligible_only=perhaps")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "eligible_only"]


async def test_one_skill_has_its_path(http: Api, path: str) -> None:
    set_skills(http.world, WEATHER, entry("of/two parts"))
    view = (await http.get(f"{path}/weather")).json()
    assert view == {
        "name": "weather",
        "description": "About weather.",
        "source": "openclaw-workspace",
        "ready": True,
        "path": f"{HOME}/weather/SKILL.md",
    }
    assert (await http.get(f"{path}/of%2Ftwo%20parts")).json()["name"] == "of/two parts"


@pytest.mark.parametrize("name", ["nobody", "..%2F..%2Fopenclaw.json", "", "Weather"])
async def test_an_unknown_skill_is_a_404(http: Api, path: str, name: str) -> None:
    set_skills(http.world, WEATHER)
    for answer in (
        await http.get(f"{path}/{name}"),
        await http.patch(f"{path}/{name}", json={"enabled": False}),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "Skill not found."})


async def test_skills_need_a_running_agent(http: Api) -> None:
    instance = await http.world.placed(InstanceStatus.STOPPED)
    path = f"/v1/instances/{instance.id}/skills"
    for answer in (
        await http.get(path),
        await http.get(f"{path}/weather"),
        await http.post(f"{path}/install", json={"slug": "weather"}),
        await http.patch(f"{path}/weather", json={"enabled": False}),
    ):
        assert answer.status_code == 409
        assert answer.json() == {"detail": "Instance is stopped, but must be running for this."}


async def test_the_body_is_validated_before_the_status(http: Api) -> None:
    instance = await http.world.placed(InstanceStatus.STOPPED)
    answer = await http.post(f"/v1/instances/{instance.id}/skills/install", json={})
    assert answer.status_code == 422


async def test_a_skill_without_requirements_is_installed(http: Api, path: str) -> None:
    set_clawhub(http.world, "weather", [WEATHER])
    answer = await http.post(f"{path}/install", json={"slug": "@somebody/weather"})
    assert answer.status_code == 200
    assert answer.json() == {
        "skill": "weather",
        "status": "installed",
        "output": "Installed weather@1.0.0",
        "env_applied": [],
        "required_env": [],
        "message": "Installed weather@1.0.0.",
    }
    (payload,) = http.world.programs.called("skills.install")
    assert payload == {"source": "clawhub", "slug": "@somebody/weather"}


async def test_variables_are_set_and_only_their_names_are_returned(http: Api, path: str) -> None:
    after = needing("pager", "PAGER_KEY", "PAGER_ROOM", missing=())
    set_clawhub(http.world, "pager", [PAGER], [after])
    env = {"PAGER_KEY": "hush", "PAGER_ROOM": "kitchen"}
    answer = await http.post(f"{path}/install", json={"slug": "pager", "env": env})
    new = answer.json()
    assert (new["status"], new["env_applied"]) == ("installed", ["PAGER_KEY", "PAGER_ROOM"])
    assert new["required_env"] == ["PAGER_KEY", "PAGER_ROOM"]
    assert "hush" not in answer.text
    assert patches(http) == [{"skills": {"entries": {"pager": {"env": env}}}}]


async def test_missing_variables_are_named(http: Api, path: str) -> None:
    set_clawhub(http.world, "pager", [PAGER])
    new = (await http.post(f"{path}/install", json={"slug": "pager"})).json()
    assert new["status"] == "installed_missing_env"
    assert new["required_env"] == ["PAGER_KEY", "PAGER_ROOM"]
    assert "PAGER_KEY to be set" in new["message"]
    lame = entry("lame", eligible=False, missing={"bins": ["ffmpeg"], "anyBins": [], "env": []})
    set_clawhub(http.world, "lame", [lame])
    new = (await http.post(f"{path}/install", json={"slug": "lame"})).json()
    assert (new["status"], new["required_env"]) == ("installed", [])
    assert "ffmpeg" in new["message"]


async def test_a_skill_that_is_listed_only_after_a_moment_gets_its_environment(
    http: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skills, "LISTING_INTERVAL_S", 0.01)
    set_clawhub(http.world, "pager", [], [], [PAGER])
    new = await http.post(f"{path}/install", json={"slug": "pager", "env": {"PAGER_ROOM": "1"}})
    assert new.json()["env_applied"] == ["PAGER_ROOM"]
    assert new.json()["status"] == "installed_missing_env"


async def test_a_skill_that_is_listed_only_after_a_change_of_settings_is_enabled(
    http: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skills, "LISTING_TIMEOUT_S", 0.0)
    set_clawhub(http.world, "weather", [], [WEATHER])
    new = (await http.post(f"{path}/install", json={"slug": "@somebody/weather"})).json()
    assert new["message"] == "Installed weather@1.0.0."
    assert patches(http) == [enabled("weather")]


async def test_a_skill_that_was_disabled_before_its_installation_stays_so(
    http: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skills, "LISTING_TIMEOUT_S", 0.0)
    set_clawhub(http.world, "weather", [])
    disabled = {"skills": {"entries": {"weather": {"enabled": False}}}}
    http.world.gateway.rpc_answers["config.get"] = ok({"hash": "abc", "config": disabled})
    assert (await http.post(f"{path}/install", json={"slug": "weather"})).status_code == 200
    assert patches(http) == []


async def test_an_installed_folder_without_a_skill_is_reported(
    http: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skills, "LISTING_TIMEOUT_S", 0.0)
    set_clawhub(http.world, "empty", [WEATHER])
    new = await http.post(f"{path}/install", json={"slug": "empty", "env": {"A": "b"}})
    assert (new.json()["skill"], new.json()["env_applied"]) == ("empty", [])
    assert "does not list it" in new.json()["message"]
    assert patches(http) == [enabled("empty")]


@pytest.mark.parametrize(
    ("reached", "words"),
    [
        ({"error": "getaddrinfo ENOTFOUND clawhub.ai"}, "ENOTFOUND"),
        ({"status": 503}, "answered 503"),
    ],
)
async def test_an_unreachable_clawhub_is_reported_before_the_installation(
    http: Api, path: str, reached: dict[str, Any], words: str
) -> None:
    http.world.programs.answers[REACH] = {"url": "https://clawhub.ai"} | reached
    answer = await http.post(f"{path}/install", json={"slug": "weather"})
    assert answer.status_code == 502
    assert words in answer.json()["detail"]["error"]
    assert "Nothing was installed." in answer.json()["detail"]["error"]
    assert http.world.programs.called("skills.install") == []


@pytest.mark.parametrize(
    ("words", "status", "detail"),
    [
        ('Skill "x" not found on ClawHub. Run …', 404, "Skill 'x' not found on ClawHub."),
        ("Skill already exists at /data.", 409, "Skill 'x' is installed already."),
        ("Skill is ambiguous on ClawHub.", 400, "Skill is ambiguous on ClawHub."),
    ],
)
async def test_an_installation_that_openclaw_refuses_is_an_error(
    http: Api, path: str, words: str, status: int, detail: str
) -> None:
    set_clawhub(http.world, "x", [])
    http.world.programs.answers["skills.install"] = undone(words)
    answer = await http.post(f"{path}/install", json={"slug": "x"})
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


async def test_a_clawhub_that_fails_during_the_installation_is_unavailable(
    http: Api, path: str
) -> None:
    set_clawhub(http.world, "x", [])
    http.world.programs.answers["skills.install"] = undone("fetch failed | ECONNRESET")
    answer = await http.post(f"{path}/install", json={"slug": "x"})
    assert answer.status_code == 502
    assert "ECONNRESET" in answer.json()["detail"]["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"slug": ""},
        {"slug": "../weather"},
        {"slug": "a/b"},
        {"slug": "weather\x00"},
        {"slug": "wetter-ü"},
        {"slug": "@/weather"},
        {"slug": "a" * 300},
        {"slug": "weather", "env": {"1A": "x"}},
        {"slug": "weather", "env": {"A=B": "x"}},
        {"slug": "weather", "env": {"A": ""}},
        {"slug": "weather", "env": {"A": "x\x00"}},
        {"slug": "weather", "env": {f"A{number}": "x" for number in range(100)}},
    ],
)
async def test_an_invalid_installation_is_a_422(
    shared: Api, agent: Instance, body: dict[str, Any]
) -> None:
    answer = await shared.post(f"/v1/instances/{agent.id}/skills/install", json=body)
    assert answer.status_code == 422
    assert shared.world.programs.calls == []


async def test_settings_are_merged_with_those_of_the_skill(http: Api, path: str) -> None:
    set_skills(http.world, entry("pager", skillKey="paging"))
    change = {
        "enabled": False,
        "apiKey": " hush\n",
        "env": {"PAGER_ROOM": "kitchen", "OLD": None, "OLDER": ""},
        "config": {"units": "metric", "gone": None},
    }
    answer = await http.patch(f"{path}/pager", json=change)
    assert (answer.status_code, answer.content) == (204, b"")
    expected = {
        "enabled": False,
        "apiKey": "hush",
        "env": {"PAGER_ROOM": "kitchen", "OLD": None, "OLDER": None},
        "config": {"units": "metric", "gone": None},
    }
    assert patches(http) == [{"skills": {"entries": {"paging": expected}}}]


@pytest.mark.parametrize(
    "change",
    [{"apiKey": None}, {"apiKey": ""}, {"env": None}, {"config": None}, {"enabled": None}],
)
async def test_null_removes_a_setting(http: Api, path: str, change: dict[str, Any]) -> None:
    set_skills(http.world, WEATHER)
    assert (await http.patch(f"{path}/weather", json=change)).status_code == 204
    (name,) = change
    assert patches(http) == [{"skills": {"entries": {"weather": {name: None}}}}]


async def test_an_empty_change_is_refused(http: Api, path: str) -> None:
    set_skills(http.world, WEATHER)
    for body in ({}, {"api_key": "misspelt"}):
        answer = await http.patch(f"{path}/weather", json=body)
        assert answer.status_code == 422
        assert "at least one of" in answer.text


@pytest.mark.parametrize(
    "change",
    [
        {"enabled": "perhaps"},
        {"apiKey": 1},
        {"apiKey": "x" * 20_000},
        {"env": {"A B": "x"}},
        {"config": []},
        {"config": {"a": ["x" * 300_000]}},
    ],
)
async def test_an_invalid_change_is_a_422(
    shared: Api, agent: Instance, change: dict[str, Any]
) -> None:
    assert (
        await shared.patch(f"/v1/instances/{agent.id}/skills/weather", json=change)
    ).status_code in {413, 422}
    assert patches(shared) == []


async def test_settings_that_openclaw_refuses_are_a_400_with_its_message(
    http: Api, path: str
) -> None:
    set_skills(http.world, WEATHER)
    http.world.gateway.rpc_answers["config.patch"] = refused("invalid config: skills")
    answer = await http.patch(f"{path}/weather", json={"config": {"a": 1}})
    assert (answer.status_code, answer.json()) == (400, {"detail": "invalid config: skills"})


async def test_an_unreachable_gateway_is_a_gateway_error(http: Api, path: str) -> None:
    http.world.programs.answers["skills.status"] = {
        "ok": False,
        "error": {"code": "UNREACHABLE", "message": "the gateway does not answer"},
    }
    answer = await http.get(path)
    assert answer.status_code == 502
    assert detail_of(answer) == "Gateway unavailable – the gateway does not answer"


def detail_of(answer: httpx.Response) -> str:
    error: str = answer.json()["detail"]["error"]
    return error


def enabled(name: str) -> dict[str, Any]:
    return {"skills": {"entries": {name: {"enabled": True}}}}


def patches(http: Api) -> list[Any]:
    return [json.loads(each["raw"]) for each in http.world.gateway.called("config.patch")]
