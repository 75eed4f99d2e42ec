"""Tar archives as they come: every header is looked at before anything believes it."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import ArchiveRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_EXTENSION_BYTES = 64 * 1024
"""Of what says more of an entry than its header has room for; tarfile reads it as a whole."""

DRAIN_BYTES = 1024 * 1024

_PAX = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
_EXTENSIONS = _PAX | {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_WITHOUT = {tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"3", b"4", b"6"}
"""Links, folders, devices and pipes have no content, whatever they say; what is unknown has."""


class Stream:
    """Bytes that come in chunks, as a file that is only read forwards."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")
        self._position = 0

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer if it ends before."""
        pieces = []
        while size and (piece := self.some(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def some(self, size: int) -> memoryview:
        """As many of so many bytes as are there, and nothing only at its end."""
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._chunk = memoryview(chunk)
        piece, self._chunk = self._chunk[:size], self._chunk[size:]
        self._position += len(piece)
        return piece

    def seek(self, position: int) -> int:
        """Goes on to there, or to its end if that is before."""
        while self._position < position and self.some(position - self._position):
            pass
        return self._position

    def tell(self) -> int:
        return self._position

    def drain(self) -> None:
        """Goes on to its end, so that whoever sends is not cut off."""
        while self.some(DRAIN_BYTES):
            pass


def checked_chunks(
    chunks: Iterable[bytes], max_bytes: int, max_entries: int
) -> Iterator[bytes | memoryview]:
    """An archive's bytes, in chunks that each have a header whole or none.

    Raises ArchiveRefused before a header goes on that does not truly say what follows it: tarfile
    reads some as they say.
    """
    source, count = Stream(_bounded(chunks, max_bytes)), 0
    while block := source.read(tarfile.BLOCKSIZE):
        if block == bytes(tarfile.BLOCKSIZE):
            yield block
            # What comes after the end is nobody's.
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
            if not (piece := source.some(left)):
                raise ArchiveRefused("it is not whole.")
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
        raise ArchiveRefused(f"it is no plain tar archive, or broken: {broken}.") from None


def _length(header: tarfile.TarInfo) -> int:
    """How many bytes follow a header."""
    if header.size < 0:
        raise ArchiveRefused("an entry has less than no bytes.")
    if header.type in _EXTENSIONS and header.size > MAX_EXTENSION_BYTES:
        raise ArchiveRefused("an entry has an extension that is too long.")
    if header.type == tarfile.GNUTYPE_SPARSE:
        raise ArchiveRefused("an entry is sparse.")
    return 0 if header.type in _WITHOUT else header.size


def _check_extension(header: tarfile.TarInfo, extension: bytes) -> None:
    """Raises ArchiveRefused if it says that there is more, or less, than headers say."""
    if header.type in _PAX and (b" size=" in extension or b" GNU.sparse" in extension):
        raise ArchiveRefused("an entry has another size than its header says.")
