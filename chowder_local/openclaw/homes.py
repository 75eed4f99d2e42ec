"""Archives of agents' homes: what is in one is looked at, and only what is fit goes on."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from chowder_local.errors.requests import ArchiveRefused

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 8 * 1024**3
MAX_ENTRIES = 1_000_000
MAX_EXTENSION_BYTES = 64 * 1024
"""Of what says more of an entry than its header has room for; tarfile reads it as a whole."""
MAX_PATH_CHARS = 4096
CONFIG = ".openclaw/openclaw.json"
MAX_CONFIG_BYTES = 2 * 1024 * 1024
AGENT_UID = 1000
OUTSIDE_LINKS = ("/data/", "/usr/", "/opt/", "/bin/", "/lib/")
"""Where links may lead that are absolute: the home, and what every sandbox's image has."""

_PAX = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
_EXTENSIONS = _PAX | {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_DATA = {tarfile.REGTYPE, tarfile.AREGTYPE}
_WITHOUT = {tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}

_NOT_CARRIED = (
    ".cache/",
    ".npm/",
    # Ours, or made anew: it names tokens, and a port, that only one sandbox has.
    CONFIG,
    ".openclaw/chowder-ca.pem",
    # Locks of processes, copies of plugins.
    ".openclaw/tmp/",
)
_NOT_EXPORTED = (
    # Keys of devices, senders that were let in, secrets that OpenClaw was given to keep, logs.
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


@dataclass(frozen=True)
class Home:
    """What `cleaned` has found."""

    size_bytes: int
    config: bytes | None
    """The agent's own configuration file, which is not in the archive that was written."""


def is_carried(name: str) -> bool:
    """Whether a snapshot has it."""
    is_shared_memory = name.endswith(".sqlite-shm")
    return not (is_shared_memory or f"{name}/".startswith(_NOT_CARRIED) or name.startswith(CONFIG))


def is_exported(name: str) -> bool:
    """Whether an archive for another machine has it."""
    private = f"{name}/".startswith(_NOT_EXPORTED) or name.startswith(_NOT_EXPORTED)
    return is_carried(name) and not private


def cleaned(
    source: IO[bytes],
    target: IO[bytes],
    *,
    prefix: str = "",
    is_wanted: Callable[[str], bool] = is_carried,
    is_strict: bool,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
) -> Home:
    """Writes an archive of regular files, folders and links that stay where they should.

    `prefix` is what all names begin with. What is unfit (devices, sockets, links that lead out) is
    left out, or refused if `is_strict`. Raises ArchiveRefused. Blocking.
    """
    start = source.tell()
    _check_headers(source, start, max_bytes, max_entries)
    source.seek(start)
    cleaner = _Cleaner(target, prefix, is_wanted, is_strict=is_strict)
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            while (entry := tar.next()) is not None:
                # Or it keeps all that it has seen.
                tar.members.clear()  # type: ignore[attr-defined]  # a list, and so documented
                cleaner.take(tar, entry)
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as broken:
        raise ArchiveRefused(f"it is broken: {broken}") from None
    return cleaner.finish()


class _Cleaner:
    def __init__(
        self, target: IO[bytes], prefix: str, is_wanted: Callable[[str], bool], *, is_strict: bool
    ) -> None:
        self._target = target
        self._prefix = prefix
        self._is_wanted = is_wanted
        self._is_strict = is_strict
        self._out = tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by finish
        self._folders = {""}
        self._files: set[str] = set()
        self._config: bytes | None = None

    def take(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        name = entry.name.rstrip("/")
        if self._prefix and f"{name}/" == self._prefix:
            return
        if not name.startswith(self._prefix) or not _is_path(name := name[len(self._prefix) :]):
            raise ArchiveRefused(f"{_shown(name)} is no path inside of the home.")
        if name == CONFIG and entry.isreg() and entry.size <= MAX_CONFIG_BYTES:
            file = tar.extractfile(entry)
            self._config = None if file is None else file.read()
        if not self._is_wanted(name):
            return
        if name.rpartition("/")[0] not in self._folders:
            # Above it is something else than a folder, or something that was left out.
            self._leave(f"{_shown(name)} is not in a folder of the archive.")
        elif name in self._files or (name in self._folders and not entry.isdir()):
            raise ArchiveRefused(f"{_shown(name)} is there twice.")
        else:
            self._write(tar, entry, name)

    def _write(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, name: str) -> None:
        made = tarfile.TarInfo(name)
        # Neither another user's rights nor anything but whole seconds.
        made.mode, made.mtime = entry.mode & 0o777, max(0, int(entry.mtime))
        made.uid = made.gid = AGENT_UID
        if entry.isreg():
            made.size = entry.size
            self._files.add(name)
            self._out.addfile(made, tar.extractfile(entry))
            return
        made.type = entry.type
        if entry.isdir():
            # Or what is in it could not be put there.
            made.mode |= 0o700
            self._folders.add(name)
        elif entry.issym() and _stays(name, entry.linkname):
            made.linkname = entry.linkname
            self._files.add(name)
        elif entry.islnk() and entry.linkname.removeprefix(self._prefix) in self._files:
            made.linkname = entry.linkname.removeprefix(self._prefix)
            self._files.add(name)
        else:
            self._leave(f"{_shown(name)} is a device, or a link that leads out of the home.")
            return
        self._out.addfile(made)

    def finish(self) -> Home:
        self._out.close()
        return Home(self._target.tell(), self._config)

    def _leave(self, words: str) -> None:
        if self._is_strict:
            raise ArchiveRefused(words)


def _check_headers(source: IO[bytes], at: int, max_bytes: int, max_entries: int) -> None:
    """Walks over all headers, before anything believes one: tarfile reads some as they say."""
    end, count = source.seek(0, io.SEEK_END), 0
    if end - at > max_bytes:
        raise ArchiveRefused(f"it has more than {max_bytes} bytes.")
    while at < end:
        source.seek(at)
        block = source.read(tarfile.BLOCKSIZE)
        if block == bytes(tarfile.BLOCKSIZE):
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as broken:
            raise ArchiveRefused(f"it is no plain tar archive, or broken: {broken}.") from None
        count += 1
        if count > max_entries:
            raise ArchiveRefused(f"it has more than {max_entries} entries.")
        length = _length(header, source)
        at += tarfile.BLOCKSIZE + -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    if at > end:
        raise ArchiveRefused("it is not whole.")


def _length(header: tarfile.TarInfo, source: IO[bytes]) -> int:
    """How many bytes follow a header."""
    if header.size < 0:
        raise ArchiveRefused("an entry has less than no bytes.")
    if header.type in _EXTENSIONS:
        if header.size > MAX_EXTENSION_BYTES:
            raise ArchiveRefused("an entry has an extension that is too long.")
        said = source.read(header.size)
        # They would say that there is more, or less, than the header says.
        if header.type in _PAX and (b" size=" in said or b" GNU.sparse" in said):
            raise ArchiveRefused("an entry has another size than its header says.")
        return header.size
    if header.type in _DATA:
        return header.size
    if header.type == tarfile.GNUTYPE_SPARSE:
        raise ArchiveRefused("an entry is sparse.")
    # Links and folders have no content, whatever they say; what is unknown has.
    return 0 if header.type in _WITHOUT | {b"3", b"4", b"6"} else header.size


def _is_path(name: str) -> bool:
    if not name or len(name) > MAX_PATH_CHARS or "\0" in name:
        return False
    return all(part not in {"", ".", ".."} for part in name.split("/"))


def _stays(name: str, target: str) -> bool:
    """Whether a symbolic link leads to something in the home, or in the image."""
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


def _shown(name: str) -> str:
    return repr(name[:100])
