"""The build context of the server's image, and whether the image is current."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import chowder_local
from chowder_local.core.settings import Settings
from chowder_local.engine import server_container as module
from chowder_local.engine.image_recipe import recipe_digest, recipe_dir
from chowder_local.engine.server_container import build_server, is_current, server_tag

ROOT = Path(__file__).parents[3]


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The engine's images with the server's tag."""
    images: list[Any] = []
    client = SimpleNamespace(
        images=SimpleNamespace(list=lambda name: images, prune=lambda _: images.clear())
    )

    class Engine:
        def __init__(self, *_: Any) -> None: ...

        def __enter__(self) -> tuple[Any, None]:
            return client, None

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(module, "engine_client", Engine)
    return images


def test_the_context_has_the_package_and_its_recipes_in_a_checkouts_layout() -> None:
    with module._context() as folder:
        top = {path.name for path in folder.iterdir()}
        assert top == {"chowder_local", "docker", "docs", "requirements.lock"}
        assert (folder / "docker/server/Dockerfile").is_file()
        assert (folder / "chowder_local/engine/programs/confine.py").is_file()
        assert recipe_digest(folder / "docker/sandbox", "x") == recipe_digest(recipe_dir(), "x")
        assert not list(folder.rglob("__pycache__"))
    assert not folder.exists()


def test_a_wheel_has_the_same_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with module._context() as folder:
        before = recipe_digest(folder, "x")
    installed = tmp_path / "chowder_local"
    shutil.copytree(ROOT / "chowder_local", installed)
    shutil.copytree(ROOT / "docker" / "sandbox", installed / "engine" / "recipe")
    shutil.copytree(ROOT / "docker" / "versions", installed / "engine" / "recipe_versions")
    shutil.copytree(ROOT / "docker" / "server", installed / "engine" / "server_recipe")
    shutil.copytree(ROOT / "docs", installed / "docs")
    shutil.copy(ROOT / "requirements.lock", installed / "engine" / "server_recipe")
    monkeypatch.setattr(module, "PACKAGE", installed)
    with module._context() as folder:
        assert recipe_digest(folder, "x") == before


def test_an_image_of_other_code_is_not_current(images: list[Any]) -> None:
    assert not is_current(Settings(), {})
    images.append(SimpleNamespace(labels={module.RECIPE_LABEL: "other"}))
    assert not is_current(Settings(), {})
    with module._context() as folder:
        digest = recipe_digest(folder, Settings().base_image)
    images.append(SimpleNamespace(labels={module.RECIPE_LABEL: digest}))
    assert is_current(Settings(), {})


def test_the_build_gets_the_version_and_the_hosts_package_index(
    images: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {}

    def build_folder(*_: Any, **given: Any) -> str:
        options.update(given)
        return str(given["tag"])

    monkeypatch.setattr(module, "build_folder", build_folder)
    env = {"PIP_INDEX_URL": "https://pypi.example", "OTHER": "x"}
    assert build_server(Settings(), print, env=env) == server_tag()
    assert server_tag() == f"chowder-local/server:{chowder_local.__version__}"
    arguments = options["arguments"]("debian:13")
    assert arguments.pop("DIGEST")
    assert arguments == {
        "BASE_IMAGE": "debian:13",
        "VERSION": chowder_local.__version__,
        "PIP_INDEX_URL": "https://pypi.example",
    }
