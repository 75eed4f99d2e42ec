"""A recording as a folder of files, one a model call, that a person can read, compare and keep."""

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
    """The entries by file name, in order; blocks. Raises SettingsInvalid, which names the file, or
    the `command` that makes a recording where there is none.
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
        raise SettingsInvalid(f"{path} is no model call: {where}: {problem['msg']}") from None


def write(folder: Path, number: int, entry: Entry) -> Path:
    """Adds an entry as a file; blocks. Its place in the order is its number."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name_of(number, entry)
    # Indented, so that a comparison of two recordings shows lines.
    text = json.dumps(
        entry.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False
    )
    # Renamed when it is whole, for readers of the folder.
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
    return path


def last_number(folder: Path) -> int:
    """The highest place that is taken, whatever was deleted before it; 0 if none is."""
    found = (re.match(r"\d+", path.name) for path in folder.glob(f"*{SUFFIX}"))
    return max((int(number[0]) for number in found if number), default=0)


def name_of(number: int, entry: Entry) -> str:
    """What the file of an entry is called: its place, and who was asked."""
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", entry.asked.model).strip("-.") or "model"
    return f"{number:04}-{entry.asked.provider}-{model[:60]}{SUFFIX}"
