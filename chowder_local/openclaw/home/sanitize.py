"""Archives of agents' homes: what is in one is looked at, and only what is fit goes on."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol, cast

from chowder_local.core.errors.requests import ArchiveRefused
from chowder_local.openclaw.home import safe_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_BYTES = 8 * 1024**3
MAX_ENTRIES = 1_000_000
MAX_PATH_CHARS = 4096
COPY_BYTES = 1024 * 1024
CONFIG = ".openclaw/openclaw.json"
MAX_CONFIG_BYTES = 2 * 1024 * 1024
AGENT_UID = 1000
OUTSIDE_LINKS = ("/data/", "/usr/", "/opt/", "/bin/", "/lib/")
"""Where links may lead that are absolute: the home, and what every sandbox's image has."""

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


class Target(Protocol):
    """All that is asked of what an archive is written to."""

    def write(self, content: bytes) -> int:
        """Puts all of it at the end."""

    def tell(self) -> int:
        """How much was written."""


@dataclass(frozen=True)
class SanitizedHome:
    """What `sanitize_home` has found."""

    size_bytes: int
    config: bytes | None
    """The agent's own configuration file, which is not in the archive that was written."""


def is_in_snapshot(name: str) -> bool:
    """Whether a snapshot has it."""
    is_shared_memory = name.endswith(".sqlite-shm")
    return not (is_shared_memory or f"{name}/".startswith(_NOT_CARRIED) or name.startswith(CONFIG))


def is_exported(name: str) -> bool:
    """Whether an archive for another machine has it."""
    private = f"{name}/".startswith(_NOT_EXPORTED) or name.startswith(_NOT_EXPORTED)
    return is_in_snapshot(name) and not private


def sanitize_home(
    source: Iterable[bytes],
    target: Target,
    *,
    prefix: str = "",
    is_wanted: Callable[[str], bool] = is_in_snapshot,
    is_strict: bool,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
) -> SanitizedHome:
    """Writes an archive of regular files, folders and links that stay where they should.

    It is written as the source's chunks come; `prefix` is what all names there begin with. What is
    unfit (devices, sockets, links that lead out) is left out, or refused if `is_strict`.
    Raises ArchiveRefused. Blocking.
    """
    stream = safe_tar.Stream(safe_tar.checked_chunks(source, max_bytes, max_entries))
    cleaner = _Cleaner(stream, target, prefix, is_wanted, is_strict=is_strict)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as tar:
            while (entry := tar.next()) is not None:
                # Or it keeps all that it has seen.
                tar.members.clear()  # type: ignore[attr-defined]  # a list, and so documented
                cleaner.take(entry)
        stream.drain()
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as broken:
        raise ArchiveRefused(f"it is broken: {broken}") from None
    return cleaner.finish()


class _Cleaner:
    def __init__(
        self,
        stream: safe_tar.Stream,
        target: Target,
        prefix: str,
        is_wanted: Callable[[str], bool],
        *,
        is_strict: bool,
    ) -> None:
        self._stream = stream
        self._target = target
        self._prefix = prefix
        self._is_wanted = is_wanted
        self._is_strict = is_strict
        self._out = tarfile.TarFile(
            mode="w",
            fileobj=cast("IO[bytes]", target),
            format=tarfile.PAX_FORMAT,
            copybufsize=COPY_BYTES,
        )
        self._folders = {""}
        self._files: set[str] = set()
        self._config: bytes | None = None

    def take(self, entry: tarfile.TarInfo) -> None:
        """What is written of an entry, at whose content the stream is."""
        name = entry.name.rstrip("/")
        if self._prefix and f"{name}/" == self._prefix:
            return
        if not name.startswith(self._prefix) or not _is_path(name := name[len(self._prefix) :]):
            raise ArchiveRefused(f"{_shown(name)} is no path inside of the home.")
        if name == CONFIG and entry.isreg() and entry.size <= MAX_CONFIG_BYTES:
            self._config = self._stream.read(entry.size)
        if not self._is_wanted(name):
            return
        if name.rpartition("/")[0] not in self._folders:
            # Above it is something else than a folder, or something that was left out.
            self._leave(f"{_shown(name)} is not in a folder of the archive.")
        elif name in self._files or (name in self._folders and not entry.isdir()):
            raise ArchiveRefused(f"{_shown(name)} is there twice.")
        else:
            self._write(entry, name)

    def _write(self, entry: tarfile.TarInfo, name: str) -> None:
        made = tarfile.TarInfo(name)
        # Neither another user's rights nor anything but whole seconds.
        made.mode, made.mtime = entry.mode & 0o777, max(0, int(entry.mtime))
        made.uid = made.gid = AGENT_UID
        if entry.isreg():
            made.size = entry.size
            self._files.add(name)
            self._out.addfile(made, cast("IO[bytes]", self._stream))
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

    def finish(self) -> SanitizedHome:
        self._out.close()
        return SanitizedHome(self._target.tell(), self._config)

    def _leave(self, reason: str) -> None:
        if self._is_strict:
            raise ArchiveRefused(reason)


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
