"""The database: durability, privacy, one writer, and errors with a remedy."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from sqlalchemy.exc import DBAPIError
from sqlmodel import select

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import DataDirFull, DataDirUnusable
from chowder_local.core.errors.requests import InstanceNotFound
from chowder_local.store import database as database_module
from chowder_local.store.database import Database, MetaQueries
from chowder_local.store.tables import METADATA, InstanceRow, MetaRow

if TYPE_CHECKING:
    from pathlib import Path

    from sqlmodel.ext.asyncio.session import AsyncSession

DEADLINE_S = 10.0


async def sql(session: AsyncSession, statement: str) -> Any:
    """The first value of a statement's result, if it has any."""
    answered = await (await session.connection()).exec_driver_sql(statement)
    return answered.scalar() if answered.returns_rows else None


async def test_the_file_the_wal_and_the_shm_are_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "chowder.db"
    async with Database.open(path) as database:
        await MetaQueries(database).put("a", "b")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"chowder.db": 0o600, "chowder.db-wal": 0o600, "chowder.db-shm": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "chowder.db"
    async with Database.open(path):
        path.chmod(0o644)
    async with Database.open(path):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("foreign_keys", 1),
        ("synchronous", 2),
        ("fullfsync", 1),
        ("busy_timeout", 5000),
    ],
)
async def test_every_connection_has_the_pragmas(
    database: Database, pragma: str, value: object
) -> None:
    async with database.reading() as session:
        read = await sql(session, f"PRAGMA {pragma}")
    async with database.writing() as session:
        written = await sql(session, f"PRAGMA {pragma}")
    assert (read, written) == (value, value)


async def test_pages_that_are_closed_early_release_their_reader(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "PAGE_SIZE", 1)
    meta = MetaQueries(database)
    for name in "abc":
        await meta.put(name, name)
    question = METADATA.tables["meta"].select()
    # There are fewer readers than rounds.
    for _ in range(10):
        async with asyncio.timeout(DEADLINE_S), aclosing(database.pages(question)) as pages:
            assert len(await anext(pages)) == 1
    assert await meta.get("a") == "a"


async def test_pages_are_of_one_state_of_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "PAGE_SIZE", 1)
    meta = MetaQueries(database)
    for name in "abc":
        await meta.put(name, "before")
    seen = []
    async for page in database.pages(METADATA.tables["meta"].select()):
        seen += [row["value"] for row in page]
        await meta.put("c", "after")
    assert seen == ["before"] * 3


async def test_closing_leaves_one_file(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "chowder.db") as database:
        await MetaQueries(database).put("a", "b")
    assert [file.name for file in tmp_path.iterdir()] == ["chowder.db"]


async def test_a_reading_session_cannot_write(database: Database) -> None:
    async def write() -> None:
        async with database.reading() as session:
            session.add(MetaRow(name="a", value="b"))
            await session.flush()

    with pytest.raises(DataDirUnusable):
        await write()


async def test_an_error_rolls_the_whole_write_back(database: Database) -> None:
    async def fail() -> None:
        async with database.writing() as session:
            session.add(MetaRow(name="a", value="b"))
            await session.flush()
            raise InstanceNotFound

    with pytest.raises(InstanceNotFound):
        await fail()
    assert await MetaQueries(database).get("a") is None


async def test_a_row_cannot_refer_to_a_missing_owner(database: Database) -> None:
    with pytest.raises(DBAPIError, match="FOREIGN KEY"):
        async with database.writing() as session:
            await sql(session, "INSERT INTO model_key VALUES ('nobody', 'openai', 'x')")


async def test_a_read_sees_one_state_during_a_write(database: Database) -> None:
    async with database.reading() as reader:
        before = (await reader.exec(select(MetaRow))).all()
        await MetaQueries(database).put("a", "b")
        during = (await reader.exec(select(MetaRow))).all()
    assert (before, during) == ([], [])
    assert await MetaQueries(database).get("a") == "b"


async def test_racing_writers_lose_no_update(database: Database) -> None:
    await MetaQueries(database).put("count", "0")

    async def increment() -> None:
        async with database.writing() as session:
            row = await session.get_one(MetaRow, "count")
            row.value = str(int(row.value) + 1)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(50):
            tasks.create_task(increment())
    assert await MetaQueries(database).get("count") == "50"


async def test_a_write_may_be_cancelled_at_any_await_and_the_next_one_works(
    database: Database,
) -> None:
    meta = MetaQueries(database)
    for yields in range(60):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(meta.put("cancelled", str(yields)))
            for _ in range(yields):
                await asyncio.sleep(0)
            task.cancel()
        await meta.put("next", str(yields))
        assert await meta.get("next") == str(yields)
    assert (await meta.get("cancelled") or "0").isdigit()


async def test_a_write_waits_for_the_write_of_another_process(
    database: Database, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "chowder.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(MetaQueries(database).put("a", "b"))
            await MetaQueries(database).get("a")
            assert not writing.done()
            other.execute("ROLLBACK")
    assert await MetaQueries(database).get("a") == "b"


WRITER = """
import asyncio, sys
from pathlib import Path
from chowder_local.store import database as database_module
from chowder_local.store.database import Database
from chowder_local.store.database import MetaQueries

async def write() -> None:
    async with Database.open(Path(sys.argv[1])) as database:
        number = 0
        while True:
            await MetaQueries(database).put(str(number), "x" * 2000)
            print(number, flush=True)
            number += 1

asyncio.run(write())
"""


async def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "chowder.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(30)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
    async with Database.open(path) as database, database.reading() as session:
        kept = {int(row.name) for row in (await session.exec(select(MetaRow))).all()}
        intact = await sql(session, "PRAGMA integrity_check")
    assert set(acknowledged) <= kept
    # At most one more write was in progress and not acknowledged.
    assert len(kept) <= len(acknowledged) + 1
    assert intact == "ok"


async def test_a_full_disk_raises_an_error_and_loses_nothing(
    database: Database,
) -> None:
    meta = MetaQueries(database)
    await meta.put("before", "kept")
    async with database.writing() as session:
        pages = await sql(session, "PRAGMA page_count")
        await sql(session, f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DataDirFull, match=r"is full\. Free some space"):
        await meta.put("big", "x" * 1_000_000)
    assert await meta.get("before") == "kept"
    assert await meta.get("big") is None
    async with database.writing() as session:
        await sql(session, f"PRAGMA max_page_count = {pages + 1000}")
    await meta.put("big", "x" * 1_000_000)


async def test_a_disk_that_is_full_at_open_raises_an_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DataDirUnusable, match="disk that holds"):
            async with Database.open(tmp_path / "chowder.db"):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_path_that_cannot_be_a_file_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "chowder.db", tmp_path):
        with pytest.raises(DataDirUnusable, match=r"cannot be written.*--data-dir"):
            async with Database.open(path):
                pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write any file")
async def test_a_read_only_file_raises_an_error(tmp_path: Path) -> None:
    path = tmp_path / "chowder.db"
    async with Database.open(path):
        pass
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataDirUnusable, match="cannot be written"):
            async with Database.open(path):
                pass
    finally:
        tmp_path.chmod(0o700)


async def test_a_file_that_is_no_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "chowder.db"
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(DataDirUnusable, match="damaged or not a database"):
        async with Database.open(path):
            pass
    assert path.read_bytes() == b"Dear diary, " * 1000


async def test_a_file_that_is_damaged_later_raises_an_error(
    database: Database, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "chowder.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "chowder.db").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        file.write(b"\xff" * size)
    with pytest.raises(ChowderError, match="damaged"):
        async with database.reading() as session:
            await session.exec(select(InstanceRow))


async def test_other_errors_of_sqlite_are_not_translated(
    database: Database,
) -> None:
    with pytest.raises(DBAPIError, match="no such table"):
        async with database.reading() as session:
            await sql(session, "SELECT * FROM nowhere")


async def test_repeated_opening_leaks_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    def held() -> int:
        # Only its own: other tests' servers in this process open and close connections meanwhile.
        threads = [
            each for each in threading.enumerate() if "_connection_worker_thread" in each.name
        ]
        for thread in threads:
            # The thread has reported its end, and needs a moment to exit.
            thread.join(timeout=10)
        files = [each.path for each in psutil.Process().open_files()]
        return sum(each.is_alive() for each in threads) + sum(
            each.startswith(str(tmp_path)) for each in files
        )

    async def open_and_use() -> None:
        async with Database.open(tmp_path / "chowder.db") as database:
            await MetaQueries(database).put("a", "b")
            await MetaQueries(database).get("a")

    await open_and_use()
    before = held()
    for _ in range(12):
        await open_and_use()
    assert held() <= before


async def test_a_cancelled_close_still_closes(tmp_path: Path) -> None:
    opened = asyncio.Event()

    async def use() -> None:
        async with Database.open(tmp_path / "chowder.db") as database:
            await MetaQueries(database).put("a", "b")
            opened.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        using = tasks.create_task(use())
        await opened.wait()
        using.cancel()
        await asyncio.sleep(0)
        using.cancel()
    assert using.cancelled()
    assert [file.name for file in tmp_path.iterdir()] == ["chowder.db"]
