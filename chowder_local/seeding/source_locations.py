"""Reads YAML and JSON files, and finds the lines of their parts for error messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from chowder_local.core import untrusted_json, untrusted_yaml
from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Location = tuple[int | str, ...]
"""The names and indexes that lead to a part of a file's content."""


@dataclass(eq=False, repr=False)
class SourceLocations:
    """The lines of the parts of a file's content."""

    file: Path
    root: yaml.Node | None

    def fail(self, location: Sequence[int | str], message: str) -> NoReturn:
        """Raises SettingsInvalid with the file, the line, the location and the message."""
        line = self._line(location)
        where = str(self.file) if line is None else f"{self.file}, line {line}"
        raise SettingsInvalid(f"{where}{_format(location)}: {message}")

    def _line(self, location: Sequence[int | str]) -> int | None:
        """The line of a part; if it is missing, that of the part around it."""
        if (node := self.root) is None:
            return None
        line = node.start_mark.line
        for part in location:
            matches = [
                (key, value) for name, key, value in untrusted_yaml.parts(node) if name == str(part)
            ]
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
        return _parse(file, text)
    except json.JSONDecodeError as broken:
        raise SettingsInvalid(f"{file}, line {broken.lineno}: {broken.msg}.") from None
    except untrusted_yaml.YamlInvalid as invalid:
        where = " cannot be read" if invalid.line is None else f", line {invalid.line}"
        raise SettingsInvalid(f"{file}{where}: {invalid}.") from None
    except ValueError as invalid:
        raise SettingsInvalid(f"{file} cannot be read: it is {invalid}.") from None


def _parse(file: Path, text: str) -> tuple[Any, SourceLocations]:
    is_json, root = file.suffix == ".json", None
    try:
        root = untrusted_yaml.compose(text)
    except untrusted_yaml.YamlInvalid:
        # Most JSON is YAML as well. For the rest, messages have no lines.
        if not is_json:
            raise
    locations = SourceLocations(file, root)
    if root is not None:
        _check_unique_names(locations, root, ())
    # Constructing merges names, so that some would be there twice.
    content = untrusted_json.read(text) if is_json else untrusted_yaml.construct(root)
    if is_json and untrusted_json.replace_surrogates(content) != content:
        raise ValueError("no Unicode: a text has half of a character, as \\ud800 is")
    return content, locations


def _check_unique_names(locations: SourceLocations, node: yaml.Node, location: Location) -> None:
    """Raises SettingsInvalid if a name is there twice, because YAML uses the last one silently."""
    seen: set[str] = set()
    for name, _, value in untrusted_yaml.parts(node):
        if name in seen:
            locations.fail((*location, name), "This name is there twice; remove one of them.")
        seen.add(name)
        part = int(name) if isinstance(node, yaml.SequenceNode) else name
        _check_unique_names(locations, value, (*location, part))


def _format(location: Sequence[int | str]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return f", {''.join(parts).removeprefix('.')}" if parts else ""
