"""What every module has to keep to."""

from __future__ import annotations

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import chowder_local

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chowder_local"
PRIVATE_WORDS = {
    "told", "heard", "said", "befall", "poured", "spare", "likeness", "loan", "lent", "vault",
    "woken", "remake",
}  # fmt: skip
"""What the glossary has other words for."""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """What every module of the package says, by its name."""
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}


def test_modules_do_not_import_one_another_in_a_circle_not_even_for_types() -> None:
    graph = grimp.build_graph("chowder_local", cache_dir=None)
    imported = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    TopologicalSorter(imported).prepare()


def test_a_name_is_of_the_glossary(texts: dict[str, str]) -> None:
    private = {
        f"{module}: {name}"
        for module, text in texts.items()
        for node in ast.walk(ast.parse(text))
        for name in _defined(node)
        if PRIVATE_WORDS & set(name.lower().split("_"))
    }
    assert not private, "docs/contributing/glossary.md has the words for these"


def _defined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    return [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []


def test_the_version_is_written_once(texts: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "chowder_local/__init__.py"
    written = re.compile(rf"""["']{re.escape(chowder_local.__version__)}["']""")
    holders = [name for name, text in texts.items() if written.search(text)]
    assert holders == ["chowder_local/__init__.py"]


def test_every_test_that_backs_a_claim_on_security_is_there() -> None:
    model = (ROOT / "docs/explanation/threat-model.md").read_text()
    named = set(re.findall(r"[\w/]*\btest_\w+(?:\.py)?", model))
    tests = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 10
    for name in named:
        is_file = name.endswith(".py")
        found = (
            any(path.as_posix().endswith(f"/{name}") for path in tests)
            if is_file
            else any(f"def {name}(" in text for text in tests.values())
        )
        assert found, f"the threat model names {name}, which is not there"
