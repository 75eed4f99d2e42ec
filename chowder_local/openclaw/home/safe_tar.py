"""Checks every header of an untrusted tar archive before tarfile reads it."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import ArchiveRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_EXTENSION_BYTES = 64 * 1024
"""The largest extended header (pax, long name), which tarfile reads into memory."""

DRAIN_BYTES = 1024 * 1024

_PAX = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
_EXTENSIONS = _PAX | {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_WITHOUT_CONTENT = {tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"3", b"4", b"6"}
"""Types without content, whatever size their header has; unknown types have content."""


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
