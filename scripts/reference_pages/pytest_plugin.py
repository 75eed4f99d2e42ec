"""The page of the pytest plugin: its fixtures, options and markers."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any, cast

from chowder_local.testing import plugin, state_fixtures
from chowder_local.testing.live import (
    LiveInbox,
    LiveInstance,
    LiveMessages,
    LiveOrganization,
)
from chowder_local.testing.replies import Replies
from chowder_local.testing.servers import Server
from scripts.reference_pages.markdown import code, codes, inline, prose, table
from scripts.reference_pages.markdown import page as make_page
from scripts.reference_pages.signatures import members

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

LEAD = """\
The package is a pytest plugin: its fixtures are there once it is installed. See [Tests with
pytest](../guides/pytest.md) for examples."""
OBJECTS: tuple[type, ...] = (LiveInstance, LiveMessages, LiveInbox, LiveOrganization, Replies)
WRAPPERS = {"Iterator", "Generator"}


class _Recorder:
    """Records the options and markers that a plugin adds to pytest's parser and configuration."""

    def __init__(self) -> None:
        self.options: list[tuple[str, dict[str, Any]]] = []
        self.markers: list[tuple[str, str]] = []

    def getgroup(self, *_: str) -> _Recorder:
        return self

    def addoption(self, name: str, **facts: Any) -> None:
        self.options.append((name, facts))

    def addinivalue_line(self, _: str, line: str) -> None:
        head, _, description = line.partition("): ")
        self.markers.append((f"{head})", description))


def page() -> str:
    """The whole page."""
    recorder = _Recorder()
    plugin.pytest_addoption(cast("pytest.Parser", recorder))
    plugin.pytest_configure(cast("pytest.Config", recorder))
    parts = [LEAD, "## Fixtures", *_fixtures(), "## Markers"]
    parts.append(
        table(
            ("Marker", "Meaning"),
            (
                (code(f"@pytest.mark.{head}"), inline(description))
                for head, description in recorder.markers
            ),
        )
    )
    options = [
        (
            code(name),
            codes(facts.get("choices", ())),
            code(facts["default"]) if "default" in facts else "",
            inline(facts["help"]),
        )
        for name, facts in recorder.options
    ]
    parts += ["## Options", table(("Option", "Values", "Default", "Meaning"), options)]
    parts += [f"## {Server.__name__}", prose(Server.__doc__)]
    for kind in OBJECTS:
        parts += [f"## {kind.__name__}", prose(kind.__doc__), *members(kind, f"{kind.__name__}.")]
    return make_page("Pytest plugin", *parts)


def _fixtures() -> Iterator[str]:
    sources = map(inspect.getsource, (plugin, state_fixtures))
    for node in (each for source in sources for each in ast.parse(source).body):
        scopes = list(_scopes(node))
        if isinstance(node, ast.FunctionDef) and scopes:
            yield f"### {node.name}"
            yield f"Scope: {code(scopes[0])}. Value: {code(_value(node.returns))}."
            yield prose(ast.get_docstring(node))


def _scopes(node: ast.stmt) -> Iterator[str]:
    """The scope of a fixture; nothing for other functions."""
    for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
        call = decorator if isinstance(decorator, ast.Call) else None
        if ast.unparse(call.func if call else decorator) == "pytest.fixture":
            options = (
                {each.arg: ast.literal_eval(each.value) for each in call.keywords} if call else {}
            )
            yield str(options.get("scope", "function"))


def _value(annotation: ast.expr | None) -> str:
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in WRAPPERS:
        annotation = annotation.slice
    return "None" if annotation is None else ast.unparse(annotation)
