"""An agent's files as `/v1` shows them, read in parallel, and only if they may have changed."""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from chowder_local.client.remote import RemoteClient
from chowder_local.core.data_dir import write_private
from chowder_local.core.errors.process import ApiRefused, ServerSilent
from chowder_local.instances.snapshots.exports import FORMAT, VERSION, manifest_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from chowder_local.client import Client

    Json = dict[str, Any]

AT_ONCE = 8
"""As many files of one agent as the server reads at once."""
MAX_FILES = 100_000
MAX_DEPTH = 64
MAX_NAME = 255
STATE = ".openclaw"
"""The folder of an export that an instance's files are relative to."""
GROWTH_BYTES = 16 * 1024 * 1024
"""How much a file may have grown since its folder was listed."""
SETTLED = timedelta(seconds=2)
"""A file that was changed so shortly before may change again without another time."""


@dataclass(eq=False, repr=False)
class FileIndex:
    """The digests that files of agents had, with the sizes and times of their folders' listings.

    It is a file of the data directory; without one, nothing is known.
    """

    file: Path | None = None

    def __post_init__(self) -> None:
        self._known: defaultdict[str, dict[str, list[Any]]] = defaultdict(dict)
        if self.file is not None:
            # It only saves time: nothing is lost with it.
            with suppress(OSError, ValueError, TypeError, AttributeError):
                self._known.update(json.loads(self.file.read_bytes()))

    def rows(self, instance_id: str) -> dict[str, list[Any]]:
        """Size, time and digest by path; changes are kept by `write`."""
        return self._known[instance_id]

    def write(self) -> None:
        """Raises DataDirUnusable if the file cannot be written."""
        if self.file is not None:
            # Other threads add to it.
            known = {instance_id: dict(each) for instance_id, each in self._known.copy().items()}
            write_private(self.file, json.dumps(known).encode())


@dataclass(eq=False, repr=False)
class Home:
    """The files of a running agent, whose folders are each listed once."""

    client: Client
    instance_id: str
    index: FileIndex

    def __post_init__(self) -> None:
        self._folders: dict[str, dict[str, Json]] = {}
        self.nameless: set[str] = set()
        """Paths in listings whose names no file of this machine can have."""
        self.unlisted: dict[str, ApiRefused] = {}
        """Why folders that `walk` came to could not be listed."""
        self.left_out: set[str] = set()
        """Files and folders that `walk` was to leave out."""
        self.empty: set[str] = set()
        """Folders without entries that `walk` came to."""
        self._written: dict[str, tuple[str, str]] = {}

    @property
    def written(self) -> dict[str, str]:
        """The digests of what `wrote` has noted, by path."""
        return {path: content_digest for path, (content_digest, _) in self._written.items()}

    def entry(self, path: str) -> Json | None:
        """The entry of a path in its folder's listing; None if there is none."""
        folder, _, name = path.rpartition("/")
        return self._folder(folder or ".").get(name)

    def digests(self, paths: Iterable[str]) -> dict[str, str | ApiRefused]:
        """The digests of those files that exist, or why a file cannot be read."""
        wanted = list(paths)
        folders = {each.rpartition("/")[0] or "." for each in wanted}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            # Each once, before several threads need it.
            list(pool.map(self._folder, folders))
            found = zip(wanted, pool.map(self._digest, wanted), strict=True)
            return {path: each for path, each in found if each is not None}

    def known_digest(self, path: str) -> str | None:
        """The digest of a file that its listing shows unchanged."""
        known, entry = self.index.rows(self.instance_id).get(path), self.entry(path)
        if entry is None or known is None or known[:2] != [entry["size"], entry["mod_time"]]:
            return None
        return str(known[2])

    def read(self, path: str, file: BinaryIO | None = None) -> str:
        """Writes a file's content to `file`, and returns its digest.

        Raises ApiRefused, RemoteFailed, and ServerSilent if it breaks off again and again.
        """
        entry = self.entry(path) or {"size": 0, "mod_time": ""}
        is_remote, now = isinstance(self.client, RemoteClient), self.client.server_time
        limit = {"max_bytes": entry["size"] + GROWTH_BYTES} if is_remote else {}
        content = sha256()
        for is_last in (False, False, True):
            content = sha256()
            if file is not None:
                file.seek(0)
                file.truncate()
            try:
                with closing(self.client.download(self.instance_id, path, **limit)) as chunks:
                    for chunk in chunks:
                        content.update(chunk)
                        if file is not None:
                            file.write(chunk)
            except ServerSilent:
                if is_last:
                    raise
            else:
                break
        if _is_settled(entry["mod_time"], now):
            row = [entry["size"], entry["mod_time"], content.hexdigest()]
            self.index.rows(self.instance_id)[path] = row
        return content.hexdigest()

    def wrote(self, path: str, content_digest: str, at: str | None = None) -> None:
        """Notes a file that was written at that time of the server, or now, for `settle`."""
        self._written[path] = content_digest, at or self.client.server_time

    def settle(self) -> None:
        """Indexes the written files that still are as they were written, by a new listing."""
        self._folders.clear()
        if self.index.file is None:
            return
        for path, (content_digest, written_at) in self._written.items():
            entry = self.entry(path)
            now = self.client.server_time
            is_ours = entry and _is_settled(entry["mod_time"], written_at, by=timedelta())
            if entry and is_ours and _is_settled(entry["mod_time"], now):
                row = [entry["size"], entry["mod_time"], content_digest]
                self.index.rows(self.instance_id)[path] = row

    def walk(self, *tops: str, is_left_out: Callable[[str], bool]) -> Iterator[tuple[str, Json]]:
        """The path and entry of everything below these folders that is no folder.

        Folders that are left out are not listed.

        Raises ValueError if there are too many of them, and ApiRefused for one of `tops`.
        """
        level, count = list(tops), 0

        def listed(folder: str) -> dict[str, Json]:
            try:
                return self._folder(folder)
            except ApiRefused as refused:
                if folder in tops:
                    raise
                self.unlisted[folder] = refused
                return {}

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in range(MAX_DEPTH):
                listings = list(zip(level, pool.map(listed, level), strict=True))
                level = []
                for folder, entries in listings:
                    count += len(entries)
                    if count > MAX_FILES:
                        raise ValueError(f"it has more than {MAX_FILES:,} files")
                    if not entries and folder not in {*tops, *self.unlisted}:
                        self.empty.add(folder)
                    for name, entry in entries.items():
                        path = f"{folder}/{name}"
                        if is_left_out(path):
                            self.left_out.add(path)
                        elif entry["is_dir"]:
                            level.append(path)
                        else:
                            yield path, entry
        if level:
            raise ValueError(f"its folders are more than {MAX_DEPTH} deep")

    def _folder(self, path: str) -> dict[str, Json]:
        """The entries of a folder by name; none if there is no such folder."""
        if path not in self._folders:
            try:
                listed = self.client.files(self.instance_id, path)
            except ApiRefused as refused:
                if refused.status != HTTPStatus.NOT_FOUND:
                    raise
                listed = []
            self._folders[path] = {each["name"]: each for each in listed if is_name(each["name"])}
            self.nameless |= {
                f"{path}/{each['name']}" for each in listed if not is_name(each["name"])
            }
        return self._folders[path]

    def _digest(self, path: str) -> str | ApiRefused | None:
        if (entry := self.entry(path)) is None:
            return None
        if entry["is_dir"]:
            return ApiRefused(HTTPStatus.BAD_REQUEST, f"{path} is a directory.")
        try:
            return self.known_digest(path) or self.read(path)
        except ApiRefused as refused:
            return refused


def write_archive(file: BinaryIO, manifest: Json, files: Mapping[str, Path]) -> None:
    """Writes an export, as `Client.import_instance` takes it, of files by their paths in a home."""
    content = json.dumps({"format": FORMAT, "version": VERSION, **manifest})
    file.write(manifest_entry(content.encode()))
    folders: set[PurePosixPath] = set()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path, source in files.items():
            name = PurePosixPath(STATE, path)
            for above in reversed(name.parents[:-1]):
                if above not in folders:
                    folders.add(above)
                    entry = tarfile.TarInfo(str(above))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(entry)
            archive.add(source, str(name), recursive=False)
    file.seek(0)


def is_name(name: str) -> bool:
    """Whether a name of a listing can be one of a file in its folder."""
    is_plain = name not in {"", ".", ".."} and not {"/", "\0"} & set(name)
    # Bytes that are no UTF-8 come as U+FFFD, and half characters cannot be encoded.
    return is_plain and "\ufffd" not in name and len(name.encode("utf-8", "replace")) <= MAX_NAME


def is_executable(file: Path) -> bool:
    """Whether its owner may execute it."""
    return bool(file.stat().st_mode & 0o100)


def _is_settled(mod_time: str, now: str, by: timedelta = SETTLED) -> bool:
    """Whether a time of a listing is that much older than a time of the server's own clock."""
    try:
        return datetime.fromisoformat(mod_time) <= parsedate_to_datetime(now) - by
    except (ValueError, TypeError):
        return False
