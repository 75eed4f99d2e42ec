"""`image` with a scripted engine; tests/docker builds and removes real images."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chowder_local import __version__
from chowder_local.cli.main import run
from chowder_local.core.settings import Settings
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.images import ImageInfo
from tests.wire.cli.conftest import Output

MADE_AT = datetime(2026, 11, 24, 10, 11, tzinfo=UTC)
USED = ImageInfo("my:1", "sha256:1", "2026.9.6", int(9.4e8), MADE_AT)
OLD = ImageInfo("chowder-local/sandbox:old", "sha256:2", "2026.9.5", int(9.4e8), MADE_AT)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"CHOWDER_DATA_DIR": str(tmp_path), "CHOWDER_IMAGE": "my:1"}


def put_images(monkeypatch: pytest.MonkeyPatch, *images: ImageInfo) -> None:
    monkeypatch.setattr("chowder_local.engine.images.list_images", lambda env: list(images))


def test_the_used_image_is_marked(
    env: dict[str, str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_images(monkeypatch, USED, OLD)
    assert run(["image", "ls"], env) == 0
    _, used, old = capsys.readouterr().out.splitlines()
    assert used.split() == ["*", "my:1", "2026.9.6", "940", "MB", "2026-11-24", "10:11"]
    assert "*" not in old
    assert run(["image", "ls", "--json"], env) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["used"] for each in listed] == [True, False]
    assert listed[0]["created_at"] == "2026-11-24T10:11:00+00:00"


def test_no_image_says_how_to_get_one(
    env: dict[str, str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_images(monkeypatch)
    assert run(["image", "ls"], env) == 0
    assert "image build" in capsys.readouterr().err


def test_the_tag_is_printed_without_an_engine(env: dict[str, str], capsys: Output) -> None:
    away = {**env, "DOCKER_HOST": "unix:///nonexistent.sock"}
    assert run(["image", "tag"], away) == 0
    assert capsys.readouterr().out == "my:1\n"
    del away["CHOWDER_IMAGE"]
    assert run(["image", "tag"], away) == 0
    assert capsys.readouterr().out == f"{expected_tag(Settings())}\n"


def test_a_build_shows_its_steps_and_prints_the_tag(
    env: dict[str, str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(
        _: Settings, progress: Callable[[str], None], *, version: str | None, **options: object
    ) -> str:
        progress(f"no_cache={options['no_cache']}")
        return f"built:{version}"

    monkeypatch.setattr("chowder_local.engine.images.build", build)
    assert run(["image", "build", "--no-cache"], env) == 0
    assert capsys.readouterr() == ("built:None\n", "Building the sandbox image\nno_cache=True\n")
    assert run(["image", "build", "--openclaw", "2026.9.5"], env) == 0
    assert capsys.readouterr().out == "built:2026.9.5\n"


@pytest.mark.parametrize(
    "options", [["--openclaw", "latest"], ["--openclaw", "2026.9.5", "--server"]]
)
def test_an_image_that_is_none_is_not_built(env: dict[str, str], options: list[str]) -> None:
    assert run(["image", "build", *options], env) == 2


def test_the_server_image_is_built_and_listed(
    env: dict[str, str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = f"chowder-local/server:{__version__}"
    monkeypatch.setattr(
        "chowder_local.engine.server_container.build_server", lambda *_, **options: tag
    )
    assert run(["image", "build", "--server"], env) == 0
    assert capsys.readouterr() == (f"{tag}\n", "Building the server image\n")
    put_images(monkeypatch, ImageInfo(tag, "sha256:3", "", int(7.1e8), MADE_AT, "server"))
    assert run(["image", "ls"], env) == 0
    _, listed = capsys.readouterr().out.splitlines()
    assert listed.split()[:3] == ["*", tag, "server"]


@pytest.mark.parametrize(("arguments", "tag"), [([], "my:1"), (["other:1"], "other:1")])
def test_rm_removes_the_named_image_or_the_used_one(
    env: dict[str, str],
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    tag: str,
) -> None:
    removed: list[str] = []
    monkeypatch.setattr("chowder_local.engine.images.remove", lambda tag, env: removed.append(tag))
    assert run(["image", "rm", *arguments], env) == 0
    assert removed == [tag]
    assert capsys.readouterr().err == f"{tag} is removed.\n"


def test_rm_asks_if_an_agent_or_a_snapshot_needs_the_image(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    asked: list[str] = []
    monkeypatch.setattr("chowder_local.engine.images.remove", lambda tag, env: removed.append(tag))

    def refuse(question: str) -> str:
        asked.append(question)
        return "n"

    monkeypatch.setattr("click.termui.visible_prompt_func", refuse)
    in_use = [("the agent fish", "v1"), ("the snapshot before", "2026.9.5")]
    monkeypatch.setattr(
        "chowder_local.store.snapshots.read_versions_in_use", lambda path, secret_box: in_use
    )
    (tmp_path / "chowder.db").touch()
    old = expected_tag(Settings(), "2026.9.5")
    for tag, user in (("my:1", "the agent fish"), (old, "the snapshot before")):
        assert run(["image", "rm", tag], env) == 1
        assert asked.pop().startswith(f"{tag} is needed by {user}: without it")
    assert removed == []
    assert run(["image", "rm", old, "--yes"], env) == 0
    assert run(["image", "rm", "other:1"], env) == 0
    assert removed == [old, "other:1"]
