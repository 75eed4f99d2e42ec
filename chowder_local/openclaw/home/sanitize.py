"""Copies only safe entries of untrusted archives of agents' homes.

Every header is checked before tarfile reads it.
"""

from __future__ import annotations

import tarfile
from dataclasses import KW_ONLY, dataclass
from typing import IO, TYPE_CHECKING, Protocol, cast

from chowder_local.core.errors.requests import ArchiveRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_BYTES = 8 * 1024**3
MAX_ENTRIES = 1_000_000
MAX_PATH_CHARS = 4096
COPY_BYTES = 1024 * 1024
CONFIG = ".openclaw/openclaw.json"
WORKSPACE = ".openclaw/workspace/"
MAX_CONFIG_BYTES = 2 * 1024 * 1024
AGENT_UID = 1000
OUTSIDE_LINKS = ("/data/", "/usr/", "/opt/", "/bin/", "/lib/")
"""Where absolute links may lead: the home, and folders of the sandbox image."""

_OF_THE_SANDBOX = (
    # Each sandbox gets its own: the configuration has its tokens and port.
    CONFIG,
    ".openclaw/chowder-ca.pem",
    ".openclaw/chowder-clock",
    # Process locks and copies of plugins.
    ".openclaw/tmp/",
)
_CACHES = (".cache/", ".npm/")
_NOT_EXPORTED = (
    # Device keys, paired senders, stored secrets, logs.
    *(
        f".openclaw/{name}"
        for name in (
            ".env",
            "audit/",
            "backups/",
            "browser/",
            "config-journal-fingerprint.key",
            "credentials/",
            "debug-proxy/",
            "devices/",
            "discord/",
            "fleet/",
            "gateway-key.pem",
            "github-profiles/",
            "identity/",
            "imessage/",
            "logs/",
            "node-host/",
            "plugin-state/",
            "push/",
            "secret-egress-proxy/",
            "secrets",
            "state/",
            "telegram/",
            "trajectory-exports/",
        )
    ),
    ".ssh/",
)
MAX_EXTENSION_BYTES = 64 * 1024
"""The largest extended header (pax, long name), which tarfile reads into memory."""

DRAIN_BYTES = 1024 * 1024

_PAX = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
_EXTENSIONS = _PAX | {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_WITHOUT_CONTENT = {tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"3", b"4", b"6"}
"""Types without content, whatever size their header has; unknown types have content."""


class CleanArchive(Protocol):
    """The file to which an archive is written."""

    def write(self, content: bytes) -> int:
        """Appends the whole content."""

    def tell(self) -> int:
        """The number of bytes written."""


@dataclass(frozen=True)
class SanitizedHome:
    """The result of `sanitize_home`; the size is that of the written archive."""

    size_bytes: int
    config: bytes | None
    """The agent's `openclaw.json`, which the written archive does not contain."""


def is_moved(name: str) -> bool:
    """Whether the path goes along when an agent's home moves to another sandbox."""
    is_shared_memory = name.endswith(".sqlite-shm")
    return not (
        is_shared_memory or f"{name}/".startswith(_OF_THE_SANDBOX) or name.startswith(CONFIG)
    )


def is_in_snapshot(name: str) -> bool:
    """Whether a snapshot contains the path."""
    return is_moved(name) and not f"{name}/".startswith(_CACHES)


def is_exported(name: str) -> bool:
    """Whether an export contains the path."""
    is_private = f"{name}/".startswith(_NOT_EXPORTED) or name.startswith(_NOT_EXPORTED)
    return is_in_snapshot(name) and not is_private


def is_in_workspace(name: str) -> bool:
    """Whether a path is one of the agent's own files, which have no secrets of OpenClaw's."""
    return f"{name}/".startswith(WORKSPACE) or WORKSPACE.startswith(f"{name}/")


def sanitize_home(
    source: Iterable[bytes],
    target: CleanArchive,
    *,
    prefix: str = "",
    is_wanted: Callable[[str], bool] = is_in_snapshot,
    is_strict: bool,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
) -> SanitizedHome:
    """Copies the wanted files, folders and safe links of an archive; the archive is streamed.

    All names in the source begin with `prefix`. Unsafe entries (devices, sockets, links that lead
    out of the home) are omitted, or refused if `is_strict`. Raises ArchiveRefused if the archive is
    broken or exceeds a bound, or for a refused entry. Blocking.
    """
    stream = Stream(checked_chunks(source, max_bytes, max_entries))
    writer = _Writer(stream, target, prefix, is_wanted, is_strict=is_strict)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as tar:
            while (entry := tar.next()) is not None:
                # Otherwise it keeps every entry in memory.
                tar.members.clear()  # type: ignore[attr-defined]  # a documented list
                writer.add(entry)
        if stream.read_some(1):
            # tarfile takes an entry whose extension is broken for the end.
            raise ArchiveRefused("it is broken: an entry's extension cannot be read.")
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as broken:
        raise ArchiveRefused(f"it is broken: {broken}") from None
    return writer.finish()


@dataclass(eq=False, repr=False)
class _Writer:
    stream: Stream
    target: CleanArchive
    prefix: str
    is_wanted: Callable[[str], bool]
    _: KW_ONLY
    is_strict: bool

    def __post_init__(self) -> None:
        self._out = tarfile.TarFile(
            mode="w",
            fileobj=cast("IO[bytes]", self.target),
            format=tarfile.PAX_FORMAT,
            copybufsize=COPY_BYTES,
        )
        self._folders = {""}
        self._files: set[str] = set()
        self._config: bytes | None = None

    def add(self, entry: tarfile.TarInfo) -> None:
        """Copies an entry if it is wanted and safe; the stream is at its content."""
        name = entry.name.rstrip("/")
        if self.prefix and f"{name}/" == self.prefix:
            return
        if not name.startswith(self.prefix) or not _is_path(name := name[len(self.prefix) :]):
            raise ArchiveRefused(f"{_display(name)} is not a path inside the home.")
        if name == CONFIG and entry.isreg() and entry.size <= MAX_CONFIG_BYTES:
            self._config = self.stream.read(entry.size)
        if not self.is_wanted(name):
            return
        if name.rpartition("/")[0] not in self._folders:
            # The entry's parent is not a folder, or was omitted.
            self._omit(f"{_display(name)} is not in a folder of the archive.")
        elif name in self._files or (name in self._folders and not entry.isdir()):
            raise ArchiveRefused(f"{_display(name)} occurs twice.")
        else:
            self._write(entry, name)

    def _write(self, entry: tarfile.TarInfo, name: str) -> None:
        copy = tarfile.TarInfo(name)
        # No set-user-ID bits and no foreign owner; times in whole seconds.
        copy.mode, copy.mtime = entry.mode & 0o777, max(0, int(entry.mtime))
        copy.uid = copy.gid = AGENT_UID
        if entry.isreg():
            copy.size = entry.size
            self._files.add(name)
            self._out.addfile(copy, cast("IO[bytes]", self.stream))
            return
        copy.type = entry.type
        if entry.isdir():
            # Without these bits the folder's entries could not be unpacked.
            copy.mode |= 0o700
            self._folders.add(name)
        elif entry.issym() and _is_safe_link(name, entry.linkname):
            copy.linkname = entry.linkname
            self._files.add(name)
        elif entry.islnk() and entry.linkname.removeprefix(self.prefix) in self._files:
            copy.linkname = entry.linkname.removeprefix(self.prefix)
            self._files.add(name)
        else:
            self._omit(f"{_display(name)} is a device, or a link that leads out of the home.")
            return
        self._out.addfile(copy)

    def finish(self) -> SanitizedHome:
        self._out.close()
        return SanitizedHome(self.target.tell(), self._config)

    def _omit(self, reason: str) -> None:
        if self.is_strict:
            raise ArchiveRefused(reason)


def _is_path(name: str) -> bool:
    if not name or len(name) > MAX_PATH_CHARS or "\0" in name:
        return False
    return all(part not in {"", ".", ".."} for part in name.split("/"))


def _is_safe_link(name: str, target: str) -> bool:
    """Whether a symbolic link stays in the home, or leads to a folder of the image."""
    if not target or len(target) > MAX_PATH_CHARS or "\0" in target:
        return False
    if target.startswith("/"):
        return target.startswith(OUTSIDE_LINKS) and ".." not in target.split("/")
    depth = name.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in {"", "."}:
            depth += 1
        if depth < 0:
            return False
    return True


def _display(name: str) -> str:
    return repr(name[:100])


class Stream:
    """A forward-only file over chunks of bytes."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")
        self._position = 0

    def read(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end."""
        pieces = []
        while size and (piece := self.read_some(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def read_some(self, size: int) -> memoryview:
        """Up to `size` bytes of the current chunk; empty only at the end."""
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._chunk = memoryview(chunk)
        piece, self._chunk = self._chunk[:size], self._chunk[size:]
        self._position += len(piece)
        return piece

    def seek(self, position: int) -> int:
        """Skips to the position, or to the end if that comes first."""
        while self._position < position and self.read_some(position - self._position):
            pass
        return self._position

    def tell(self) -> int:
        return self._position

    def drain(self) -> None:
        """Skips to the end, so that the sender is not cut off."""
        while self.read_some(DRAIN_BYTES):
            pass


def checked_chunks(
    chunks: Iterable[bytes], max_bytes: int, max_entries: int
) -> Iterator[bytes | memoryview]:
    """Yields an archive's bytes, with each header and its extension in one chunk.

    Raises ArchiveRefused if the archive exceeds a bound, is truncated, or has a header whose size
    is wrong; tarfile never sees that header.
    """
    source, count = Stream(_bounded(chunks, max_bytes)), 0
    while block := source.read(tarfile.BLOCKSIZE):
        if block == bytes(tarfile.BLOCKSIZE):
            yield block
            # Data after the end mark is ignored.
            source.drain()
            return
        count += 1
        if count > max_entries:
            raise ArchiveRefused(f"it has more than {max_entries} entries.")
        header = _header(block)
        left = -(-_length(header) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        if header.type in _EXTENSIONS:
            extension = source.read(left)
            _check_extension(header, extension)
            left -= len(extension)
            block += extension
        yield block
        while left:
            if not (piece := source.read_some(left)):
                raise ArchiveRefused("it is truncated.")
            left -= len(piece)
            yield piece


def _bounded(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    left = max_bytes
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise ArchiveRefused(f"it has more than {max_bytes} bytes.")
        yield chunk


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as broken:
        raise ArchiveRefused(f"it is not a plain tar archive, or is broken: {broken}.") from None


def _length(header: tarfile.TarInfo) -> int:
    """The size in bytes of what follows a header. Raises ArchiveRefused if it is invalid."""
    if header.size < 0:
        raise ArchiveRefused("an entry has a negative size.")
    if header.type in _EXTENSIONS and header.size > MAX_EXTENSION_BYTES:
        raise ArchiveRefused("an entry has an extension that is too long.")
    if header.type == tarfile.GNUTYPE_SPARSE:
        raise ArchiveRefused("an entry is sparse.")
    return 0 if header.type in _WITHOUT_CONTENT else header.size


def _check_extension(header: tarfile.TarInfo, extension: bytes) -> None:
    """Raises ArchiveRefused if an extension overrides the size in the header."""
    if header.type in _PAX and (b" size=" in extension or b" GNU.sparse" in extension):
        raise ArchiveRefused("an entry's extension overrides the size in its header.")
