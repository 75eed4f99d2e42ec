"""What every module, and README, has to keep to."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import chowder_local
from chowder_local.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chowder_local"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
LONGEST_MODULE_LINES = 400


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_a_module_says_in_a_sentence_what_it_is_for(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text()))
    assert docstring, f"{module} has no docstring"
    assert re.search(r"[.!?]$", docstring.split("\n\n")[0].strip())


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_a_module_is_short_enough_to_read(module: Path) -> None:
    lines = len(module.read_text().splitlines())
    assert lines < LONGEST_MODULE_LINES, f"{module} has {lines} lines: split it"


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_a_module_has_a_role_and_is_no_drawer(module: Path) -> None:
    assert module.stem not in {"utils", "util", "helpers", "common", "misc", "manager", "base"}


def test_no_python_package_hides_the_docker_sdk() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "chowder_local/__init__.py"
    written = re.compile(rf"""["']{re.escape(chowder_local.__version__)}["']""")
    holders = [name for name, path in zip(NAMES, MODULES, strict=True)
               if written.search(path.read_text())]  # fmt: skip
    assert holders == ["chowder_local/__init__.py"]


def setting_row(name: str) -> re.Pattern[str]:
    return re.compile(rf"^\| `{PREFIX}{name.upper()}` \|", re.MULTILINE)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_setting_is_explained_in_readme(name: str) -> None:
    row = setting_row(name).search((ROOT / "README.md").read_text())
    assert row, f"README's table of settings lacks {PREFIX}{name.upper()}"
    description = Settings.model_fields[name].description
    assert description
    line = (ROOT / "README.md").read_text()[row.start() :].splitlines()[0]
    assert description in line, f"README and settings.py explain {name} differently"


def test_readme_explains_no_setting_that_is_not_there() -> None:
    explained = re.findall(rf"^\| `{PREFIX}(\w+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert {name.lower() for name in explained} == set(Settings.model_fields)


def test_every_test_that_backs_a_claim_on_security_is_there() -> None:
    named = set(re.findall(r"[\w/]*\btest_\w+(?:\.py)?", (ROOT / "SECURITY.md").read_text()))
    tests = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 10
    for name in named:
        is_file = name.endswith(".py")
        found = (
            any(path.as_posix().endswith(f"/{name}") for path in tests)
            if is_file
            else any(f"def {name}(" in text for text in tests.values())
        )
        assert found, f"SECURITY.md names {name}, which is not there"
