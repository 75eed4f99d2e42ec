"""The JavaScript package: what is packed, its types, and its helpers with `node --test`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chowder_local import __version__
from chowder_local.api.openapi.document import document
from chowder_local.api.routes import OPERATIONS
from tests.e2e.made_once import made_once
from tests.e2e.node import RUN_TIMEOUT_S, node_modules, tool
from tests.e2e.serving import bare_environment

if TYPE_CHECKING:
    from tests.e2e.serving import ServerProcess

PACKAGE = Path(__file__).parents[2] / "js"


def run(folder: Path, *words: str, **env: str) -> str:
    done = subprocess.run(
        words, cwd=folder, env=bare_environment() | env, capture_output=True, text=True,
        check=False, timeout=RUN_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def helped(folder: Path, server: ServerProcess, name: str) -> str:
    """What `node --test` says of a file of the package's own tests."""
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("node_modules"))
    named = {"CHOWDER_BASE_URL": server.base_url, "CHOWDER_KEY": server.key}
    return run(folder, tool("node"), "--test", f"test/{name}", **named)


@pytest.mark.docker
@pytest.mark.slow
def test_agents_answer_by_replies_and_report_a_failure(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    assert "# pass 3\n" in helped(tmp_path / "js", quick_server, "agents.test.js")


@pytest.mark.docker
@pytest.mark.slow
def test_agents_are_forked_restored_and_stopped(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    assert "# pass 1\n" in helped(tmp_path / "js", quick_server, "states.test.js")


@pytest.mark.slow
def test_the_types_are_those_of_the_document_and_refuse_what_is_wrong() -> None:
    described = json.dumps(document(OPERATIONS))
    sources = [PACKAGE / "test" / "types.mts", *sorted(PACKAGE.glob("src/*.d.ts"))]
    own = [file for file in sources if file.name != "openapi.d.ts"]

    def make(folder: Path) -> None:
        shutil.copytree(
            PACKAGE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
        )
        (folder / "openapi.json").write_text(described)
        (folder / "node_modules").symlink_to(node_modules())
        programs = folder / "node_modules" / ".bin"
        types = ("openapi.json", "-o", "src/openapi.d.ts")
        run(folder, str(programs / "openapi-typescript"), *types)
        run(folder, str(programs / "tsc"), "-p", ".")

    made_once("javascript", make, described, *(file.read_bytes() for file in own))


def test_the_package_has_the_version_of_the_server_and_needs_nothing() -> None:
    described = json.loads((PACKAGE / "package.json").read_text())
    assert described["version"] == __version__
    assert "dependencies" not in described
    exported = [file for each in described["exports"].values() for file in each.values()]
    assert all((PACKAGE / file).is_file() for file in exported)
