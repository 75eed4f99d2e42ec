"""`skills` against a scripted server."""

from pathlib import Path
from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish"}
INSTANCES = "GET /v1/instances"
SKILLS = f"/v1/instances/{FISH['id']}/skills"
WEATHER = {
    "name": "weather",
    "description": "Says how the weather is.",
    "source": "openclaw-bundled",
    "ready": True,
}


def test_the_skills_that_are_ready_are_listed(serve: Serve, capsys: Output) -> None:
    env, _ = serve({INSTANCES: [FISH], f"GET {SKILLS}?eligible_only=true": [WEATHER]})
    assert run(["skills", "ls", "fish", "--ready"], env) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["weather", "yes"]


def test_a_skill_is_shown_with_its_path(serve: Serve, capsys: Output) -> None:
    env, _ = serve({INSTANCES: [FISH], f"GET {SKILLS}/weather": WEATHER | {"path": "/skills/w"}})
    assert run(["skills", "show", "fish", "weather"], env) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["Path", "/skills/w"]


def test_a_folder_is_added_as_a_skill(serve: Serve, capsys: Output, tmp_path: Path) -> None:
    tides = {**WEATHER, "name": "tides", "source": "openclaw-workspace"}
    path = "/home/workspace/skills/tide-table/SKILL.md"
    files = f"/v1/instances/{FISH['id']}/files"
    env, requests = serve(
        {
            INSTANCES: [FISH],
            f"POST {files}/upload": (204, b""),
            f"GET {SKILLS}?eligible_only=false": [WEATHER, tides],
            f"GET {SKILLS}/tides": tides | {"path": path},
        }
    )
    folder = tmp_path / "tide-table"
    folder.mkdir()
    assert run(["skills", "add", "fish", str(folder)], env) == 2
    (folder / "SKILL.md").write_text("---\nname: tides\n---\n")
    assert run(["skills", "add", "fish", str(folder)], env) == 0
    printed, notes = capsys.readouterr()
    assert printed.splitlines()[-1].split() == ["Path", path]
    assert "should be a folder with a SKILL.md in it" in notes
    assert b"workspace/skills/tide-table/SKILL.md" in requests[1][1]


def test_a_skill_that_openclaw_does_not_list_is_a_failure(
    serve: Serve, capsys: Output, tmp_path: Path
) -> None:
    env, _ = serve(
        {
            INSTANCES: [FISH],
            f"POST /v1/instances/{FISH['id']}/files/upload": (204, b""),
            f"GET {SKILLS}?eligible_only=false": [WEATHER],
        }
    )
    (tmp_path / "SKILL.md").write_text("The tide turns at noon.")
    assert run(["skills", "add", "fish", str(tmp_path)], env) == 1
    assert "OpenClaw does not list the skill. Begin SKILL.md with" in capsys.readouterr().err


def test_an_installation_names_what_it_still_needs(
    serve: Serve, capsys: Output, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("k7\n")
    installed = {
        "skill": "pager",
        "message": "Installed pager@1.0.0.",
        "env_applied": ["PAGER_KEY"],
        "required_env": ["PAGER_KEY", "PAGER_ROOM"],
    }
    env, requests = serve({INSTANCES: [FISH], f"POST {SKILLS}/install": installed})
    variable = f"PAGER_KEY=@{tmp_path / 'key'}"
    assert run(["skills", "install", "fish", "@me/pager", "--env", variable], env) == 0
    assert requests[-1][1] == {"slug": "@me/pager", "env": {"PAGER_KEY": "k7"}}
    printed, notes = capsys.readouterr()
    assert printed == "Installed pager@1.0.0.\n"
    assert "-e PAGER_ROOM=" in notes
    assert "PAGER_KEY" not in notes


def test_only_what_is_given_is_changed(serve: Serve, capsys: Output) -> None:
    env, requests = serve({INSTANCES: [FISH], f"PATCH {SKILLS}/weather": (204, b"")})
    assert run(["skills", "set", "fish", "weather", "--disable"], env) == 0
    assert requests[-1][1] == {"enabled": False}
    settings = ["--api-key", "", "-e", "ROOM=", "-c", "days=3", "-c", "units=metric"]
    assert run(["skills", "set", "fish", "weather", *settings], env) == 0
    assert requests[-1][1] == {
        "apiKey": "",
        "env": {"ROOM": ""},
        "config": {"days": 3, "units": "metric"},
    }


@pytest.mark.parametrize("options", [[], ["-e", "ROOM"], ["-e", "ROOM=@/no/such/file"]])
def test_wrong_usage_changes_nothing(serve: Serve, options: list[str]) -> None:
    env, requests = serve({})
    assert run(["skills", "set", "fish", "weather", *options], env) == 2
    assert requests == []
