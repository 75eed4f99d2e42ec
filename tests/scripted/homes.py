"""Archives of agents' homes, as an engine gives them."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

from chowder_local.instances.snapshots.exports import FORMAT, VERSION, entry_of

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = ".openclaw/openclaw.json"


def archive(files: Mapping[str, bytes], *entries: tarfile.TarInfo, prefix: str = "data/") -> bytes:
    """An archive of these files, with the folders above them, and of further entries."""
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
    """A fresh agent's."""
    return archive(
        {CONFIG: json.dumps(config or {}).encode(), ".openclaw/workspace/AGENTS.md": b"# Agents\n"}
    )


def exported(files: Mapping[str, bytes] | None = None, **told: object) -> bytes:
    """What another machine has exported."""
    manifest = {"format": FORMAT, "version": VERSION, "name": "Bea"} | told
    head = entry_of(json.dumps(manifest).encode())
    return head + archive(files or {".openclaw/workspace/AGENTS.md": b"# Agents\n"}, prefix="")


def as_given(home: bytes, files: Mapping[str, bytes]) -> bytes:
    """What an engine gives of a volume on which an archive and some files were put."""
    put = contents(home) | {f".openclaw/{name}": content for name, content in files.items()}
    return archive(put)


def contents(home: bytes, prefix: str = "") -> dict[str, bytes]:
    """The names and contents of an archive's files."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(home)) as tar:
        for entry in tar.getmembers():
            if entry.isreg() and (file := tar.extractfile(entry)) is not None:
                found[entry.name.removeprefix(prefix)] = file.read()
    return found
