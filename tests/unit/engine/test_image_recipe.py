"""The recipe's versions, files and tag."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.settings import Settings
from chowder_local.engine import image_recipe
from chowder_local.engine.image_recipe import (
    REPOSITORY,
    expected_tag,
    openclaw_version,
    read_versions,
    recipe_digest,
    recipe_dir,
    recipe_of,
    tag_of,
    versions_dir,
)
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from pathlib import Path

BASE = "node:24-trixie-slim"
DEFAULT = openclaw_version()
PINNED = sorted(path.parent.name for path in versions_dir().glob("*/versions.env"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recipe"
    (folder / "seed").mkdir(parents=True)
    (folder / "versions.env").write_text("# why\nNODE_VERSION=1.2.3\n\nOPENCLAW_VERSION=9.9.9\n")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "seed" / "settings.json").write_text("{}")
    return folder


def test_versions_are_read_without_comments_and_empty_lines(folder: Path) -> None:
    assert read_versions(folder) == {"NODE_VERSION": "1.2.3", "OPENCLAW_VERSION": "9.9.9"}


def test_a_tag_names_the_openclaw_version_and_a_digest(folder: Path) -> None:
    assert re.fullmatch(r"chowder-local/sandbox:9\.9\.9-[0-9a-f]{12}", tag_of(folder, BASE))


def test_the_same_recipe_elsewhere_has_the_same_tag(folder: Path, tmp_path: Path) -> None:
    before = tag_of(folder, BASE)
    assert tag_of(folder.rename(tmp_path / "moved"), BASE) == before


@pytest.mark.parametrize("name", ["Dockerfile", "seed/settings.json", "new", ".dockerignore"])
def test_a_changed_file_changes_the_tag(folder: Path, name: str) -> None:
    before = tag_of(folder, BASE)
    (folder / name).write_text("something else")
    assert tag_of(folder, BASE) != before


def test_another_base_changes_the_tag(folder: Path) -> None:
    assert tag_of(folder, BASE) != tag_of(folder, "node:26")


def test_a_desktops_hidden_files_do_not_change_the_tag(folder: Path) -> None:
    before = tag_of(folder, BASE)
    (folder / "seed" / ".DS_Store").write_bytes(b"\0")
    assert tag_of(folder, BASE) == before


def test_compiled_python_files_do_not_change_the_tag(folder: Path) -> None:
    before = tag_of(folder, BASE)
    compiled = folder / "seed" / "__pycache__"
    compiled.mkdir()
    (compiled / "slim.cpython-313.pyc").write_bytes(b"\0")
    assert tag_of(folder, BASE) == before


def test_moving_bytes_from_one_file_to_the_next_changes_the_tag(folder: Path) -> None:
    (folder / "a").write_text("xy")
    (folder / "b").write_text("z")
    before = tag_of(folder, BASE)
    (folder / "a").write_text("x")
    (folder / "b").write_text("yz")
    assert tag_of(folder, BASE) != before


def test_the_operators_own_image_is_expected_by_its_name() -> None:
    assert expected_tag(Settings(image="mine:1")) == "mine:1"


def test_the_default_image_is_the_one_of_this_recipe() -> None:
    settings = Settings()
    assert expected_tag(settings) == tag_of(recipe_dir(), settings.base_image)


def test_the_settings_choose_the_release_of_the_default_image() -> None:
    settings = Settings(openclaw_version="2026.8.2")
    assert openclaw_version(settings) == "2026.8.2"
    assert expected_tag(settings) == expected_tag(Settings(), "2026.8.2")


def test_the_operators_own_image_is_not_that_of_a_named_release() -> None:
    assert expected_tag(Settings(image="mine:1"), "2026.8.2").startswith(f"{REPOSITORY}:2026.8.2-")


def test_the_default_release_has_the_recipe_of_the_folder_as_it_is() -> None:
    recipe = recipe_of(openclaw_version())
    assert recipe.is_locked
    assert recipe.tag(BASE) == tag_of(recipe_dir(), BASE)


@pytest.mark.parametrize("version", PINNED)
def test_a_pinned_release_differs_in_its_versions_and_packages_only(version: str) -> None:
    recipe, default = recipe_of(version), recipe_of(DEFAULT)
    changed = {name for name in recipe.files if recipe.files[name] != default.files[name]}
    assert changed <= {
        "versions.env", "package.json", "package-lock.json", "channels/package.json",
        "channels/package-lock.json",
    }  # fmt: skip
    lock = json.loads(recipe.files["package-lock.json"])
    assert recipe.is_locked
    assert recipe.versions["OPENCLAW_VERSION"] == version
    assert lock["packages"]["node_modules/openclaw"]["version"] == version


def test_any_other_release_has_a_tag_before_its_packages_are_resolved() -> None:
    recipe = recipe_of("2026.1.1")
    assert not recipe.is_locked
    assert "package-lock.json" not in recipe.files
    assert recipe.tag(BASE).startswith(f"{REPOSITORY}:2026.1.1-")
    assert recipe.tag(BASE) != recipe_of("2026.1.2").tag(BASE)


def test_a_recipes_files_are_in_its_build_context() -> None:
    with recipe_of("2026.8.2").context() as folder:
        assert recipe_digest(folder, BASE) == recipe_of("2026.8.2").tag(BASE).rpartition("-")[2]
    assert not folder.exists()


def test_the_recipe_in_a_wheel_is_preferred_to_a_checkouts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "recipe").mkdir()
    monkeypatch.setattr(image_recipe, "__file__", str(tmp_path / "image_recipe.py"))
    assert recipe_dir() == tmp_path / "recipe"


def test_package_json_and_lock_agree_with_the_versions() -> None:
    folder = recipe_dir()
    wanted = openclaw_version()
    package = json.loads((folder / "package.json").read_text())
    lock = json.loads((folder / "package-lock.json").read_text())
    assert package["dependencies"] == {"openclaw": wanted}
    assert lock["packages"]["node_modules/openclaw"]["version"] == wanted


@pytest.mark.parametrize(
    "file",
    [
        path
        for folder in (recipe_dir(), versions_dir())
        for path in folder.rglob("package-lock.json")
    ],
    ids=lambda path: f"{path.parents[1].name}/{path.parent.name}",
)
def test_the_npm_locks_pin_by_hash_and_name_no_registry(file: Path) -> None:
    lock = json.loads(file.read_text())
    # Bundled packages come inside a pinned one.
    entries = lock["packages"].items()
    packages = [entry for path, entry in entries if path and not entry.get("inBundle")]
    assert all("integrity" in entry and "resolved" not in entry for entry in packages)


def test_the_dependencies_of_the_bundler_are_pinned_exactly() -> None:
    folder = recipe_dir() / "flatten"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert wanted == {name: lock[f"node_modules/{name}"]["version"] for name in wanted}


def test_the_build_context_is_what_the_dockerfile_copies() -> None:
    folder = recipe_dir()
    sent = {line[1:] for line in (folder / ".dockerignore").read_text().splitlines()[1:]}
    copies = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", (folder / "Dockerfile").read_text(), re.M)
    assert {name.rstrip("/") for line in copies for name in line.split()} == sent


def test_every_channel_that_openclaw_ships_separately_is_pinned_exactly() -> None:
    folder = recipe_dir() / "channels"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert set(wanted) == {f"@openclaw/{name}" for name in CHANNELS if name != "telegram"}
    assert wanted == {name: lock[f"node_modules/{name}"]["version"] for name in wanted}


def test_openclaws_own_retries_are_off_in_the_seed() -> None:
    seed = recipe_dir() / "seed" / "agents" / "main" / "agent" / "settings.json"
    assert json.loads(seed.read_text()) == {"retry": {"provider": {"maxRetries": 0}}}
