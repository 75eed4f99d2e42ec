"""Reads YAML and JSON files, and finds the lines of their parts for error messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Location = tuple[int | str, ...]
"""The names and indexes that lead to a part of a file's content."""


class SourceLocations:
    """The lines of the parts of a file's content."""

    def __init__(self, file: Path, root: yaml.Node | None) -> None:
        self._file = file
        self._root = root

    def fail(self, location: Sequence[int | str], message: str) -> NoReturn:
        """Raises SettingsInvalid with the file, the line, the location and the message."""
        line = self._line(location)
        where = str(self._file) if line is None else f"{self._file}, line {line}"
        raise SettingsInvalid(f"{where}{_format(location)}: {message}")

    def _line(self, location: Sequence[int | str]) -> int | None:
        """The line of a part; if it is missing, that of the part around it."""
        if (node := self._root) is None:
            return None
        line = node.start_mark.line
        for part in location:
            matches = [(key, value) for name, key, value in _parts(node) if name == str(part)]
            if not matches:
                break
            # If a name is there twice, the second one is the error.
            key, node = matches[-1]
            line = key.start_mark.line
        return int(line) + 1


def read(file: Path) -> tuple[Any, SourceLocations]:
    """The content of a seed file. Raises SettingsInvalid if it cannot be read or parsed."""
    try:
        text = file.read_text("utf-8")
    except OSError as failure:
        raise SettingsInvalid(f"{file} cannot be read: {failure.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"{file} is not text in UTF-8.") from None
    try:
        # Most JSON is YAML as well. For the rest, messages have no lines.
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as broken:
        raise SettingsInvalid(f"{file}, line {broken.lineno}: {broken.msg}.") from None
    except yaml.YAMLError as broken:
        raise SettingsInvalid(_syntax_error(file, broken)) from None
    root = _compose(text)
    locations = SourceLocations(file, root)
    if root is not None:
        _check_unique_names(locations, root, ())
    return content, locations


def _compose(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None


def _syntax_error(file: Path, broken: yaml.YAMLError) -> str:
    if isinstance(broken, yaml.MarkedYAMLError) and broken.problem_mark is not None:
        return f"{file}, line {broken.problem_mark.line + 1}: {broken.problem}."
    return f"{file} is not valid YAML: {broken}"


def _check_unique_names(locations: SourceLocations, node: yaml.Node, location: Location) -> None:
    """Raises SettingsInvalid if a name is there twice, because YAML uses the last one silently."""
    seen: set[str] = set()
    for name, _, value in _parts(node):
        if name in seen:
            locations.fail((*location, name), "This name is there twice; remove one of them.")
        seen.add(name)
        part = int(name) if isinstance(node, yaml.SequenceNode) else name
        _check_unique_names(locations, value, (*location, part))


def _parts(node: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """The parts of a node: name or index, the node where the part begins, and its value."""
    if isinstance(node, yaml.SequenceNode):
        for index, each in enumerate(node.value):
            yield str(index), each, each
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key, value


def _format(location: Sequence[int | str]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return f", {''.join(parts).removeprefix('.')}" if parts else ""
