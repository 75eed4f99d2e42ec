"""Reads and writes a recording: a folder with one JSON file a model call."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.relay.recordings.entries import Entry

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".json"


def read(folder: Path, command: str | None = None) -> dict[str, Entry]:
    """The entries by file name, in order; blocks.

    Raises SettingsInvalid if a file is invalid, or if there is no such folder. The message then
    quotes the `command` that makes a recording.
    """
    if not folder.is_dir():
        command = command or f"chowder-local up --record {folder}"
        raise SettingsInvalid(f"There is no recording in {folder}. Make one with: {command}")
    return {path.name: _entry(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}


def _entry(path: Path) -> Entry:
    try:
        return Entry.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be read: {error}") from None
    except ValidationError as invalid:
        problem = invalid.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        cause = f"{where}: {problem['msg']}"
        raise SettingsInvalid(f"{path} is not a recorded model call: {cause}") from None


def write(folder: Path, number: int, entry: Entry) -> Path:
    """Writes an entry to a new file whose name begins with the number; blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(number, entry)
    # Indented, so that a diff of two recordings shows lines.
    text = json.dumps(
        entry.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False
    )
    # Renamed when complete, so that readers of the folder see no partial file.
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
    return path


def last_number(folder: Path) -> int:
    """The highest number of a file in the folder; 0 if it has none."""
    numbers = (re.match(r"\d+", path.name) for path in folder.glob(f"*{SUFFIX}"))
    return max((int(number[0]) for number in numbers if number), default=0)


def file_name(number: int, entry: Entry) -> str:
    """The file name of an entry: its number, provider and model."""
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", entry.asked.model).strip("-.") or "model"
    return f"{number:04}-{entry.asked.provider}-{model[:60]}{SUFFIX}"
