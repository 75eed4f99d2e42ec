"""Archives of agents' homes in the engine's format."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from chowder_local.instances.snapshots.exports import FORMAT, VERSION, manifest_entry
from tests.scripted import local_processes

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE = ".openclaw"
CONFIG = f"{STATE}/openclaw.json"


def archive(files: Mapping[str, bytes], *entries: tarfile.TarInfo, prefix: str = "data/") -> bytes:
    """An archive of files, with their parent folders, and of further entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders: set[str] = set()
        if prefix:
            tar.addfile(folder(prefix))
        for path, content in files.items():
            parts = path.split("/")
            for count in range(1, len(parts)):
                above = "/".join(parts[:count])
                if above not in folders:
                    folders.add(above)
                    tar.addfile(folder(f"{prefix}{above}"))
            entry = tarfile.TarInfo(f"{prefix}{path}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return buffer.getvalue()


def folder(name: str) -> tarfile.TarInfo:
    """An entry for a folder."""
    entry = tarfile.TarInfo(name.rstrip("/"))
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def link(name: str, target: str, *, is_hard: bool = False) -> tarfile.TarInfo:
    """An entry for a link."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.LNKTYPE if is_hard else tarfile.SYMTYPE, target
    return entry


def blank(config: Mapping[str, object] | None = None) -> bytes:
    """The archive of a new agent's home."""
    return archive(
        {CONFIG: json.dumps(config or {}).encode(), ".openclaw/workspace/AGENTS.md": b"# Agents\n"}
    )


def exported(files: Mapping[str, bytes] | None = None, **members: object) -> bytes:
    """An export of another machine, whose manifest has `members`."""
    manifest = {"format": FORMAT, "version": VERSION, "name": "Bea"} | members
    head = manifest_entry(json.dumps(manifest).encode())
    return head + archive(files or {".openclaw/workspace/AGENTS.md": b"# Agents\n"}, prefix="")


def of_folder(home: Path) -> bytes:
    """The archive of a volume with the home that is in a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(home, "data")
    return buffer.getvalue()


def unpack(volume_archive: bytes, home: Path) -> None:
    """Unpacks the archive of a volume as a folder that does not exist yet."""
    with TemporaryDirectory(dir=home.parent) as folder:
        local_processes.unpack(folder, [volume_archive])
        (Path(folder) / "data").rename(home)


def contents(home: bytes, prefix: str = "") -> dict[str, bytes]:
    """The names and contents of an archive's files."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(home)) as tar:
        for entry in tar.getmembers():
            if entry.isreg() and (file := tar.extractfile(entry)) is not None:
                files[entry.name.removeprefix(prefix)] = file.read()
    return files
