"""Errors of the file and its disk are translated into messages with a remedy."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from chowder_local.core.errors.process import DataDirFull, DataDirUnusable
from chowder_local.store import sqlite
from chowder_local.store.sqlite import translated_errors, unwritable

PATH = Path("/data/chowder.db")


def refusal(code: int) -> sqlite3.OperationalError:
    failed = sqlite3.OperationalError("no")
    failed.sqlite_errorcode = code
    return failed


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_FULL, "The disk that holds /data is full. Free some space"),
        (sqlite3.SQLITE_IOERR_WRITE, "The disk that holds /data/chowder.db fails"),
        (sqlite3.SQLITE_READONLY, "/data/chowder.db cannot be written"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "/data/chowder.db cannot be written"),
        (sqlite3.SQLITE_CANTOPEN, "/data/chowder.db cannot be written"),
        (sqlite3.SQLITE_NOTADB, "/data/chowder.db is damaged or not a database"),
        (sqlite3.SQLITE_CORRUPT, "/data/chowder.db is damaged or not a database"),
        (sqlite3.SQLITE_BUSY, "Another program keeps /data/chowder.db locked"),
    ],
)
def test_each_code_has_a_message_with_a_remedy(code: int, words: str) -> None:
    for failed in (refusal(code), OperationalError("SELECT 1", {}, refusal(code))):
        with pytest.raises(DataDirUnusable, match=words) as error, translated_errors(PATH):
            raise failed
        assert "--data-dir" in str(error.value)
        assert isinstance(error.value, DataDirFull) == (code == sqlite3.SQLITE_FULL)


def test_a_failing_file_on_a_full_disk_is_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "is_full", lambda _: True)
    with pytest.raises(DataDirFull, match="/data is full"), translated_errors(PATH):
        raise refusal(sqlite3.SQLITE_IOERR_SHMSIZE)


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(sqlite3.OperationalError), translated_errors(PATH):
        raise refusal(sqlite3.SQLITE_ERROR)
    with pytest.raises(sqlite3.OperationalError), translated_errors(PATH):
        raise sqlite3.OperationalError("made by the driver, without a code")
    with pytest.raises(KeyError), translated_errors(PATH):
        raise KeyError


def test_errors_of_the_file_system_are_translated_too() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        full = unwritable(PATH, OSError(number, "No space left"))
        assert isinstance(full, DataDirFull)
        assert "is full" in str(full)
    read_only = unwritable(PATH, OSError(errno.EROFS, "Read-only"))
    assert type(read_only) is DataDirUnusable
    assert "cannot be written" in str(read_only)
