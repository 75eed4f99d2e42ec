"""An agent with thousands of conversations in OpenClaw's own database."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.instances.snapshots.exports import MANIFEST
from chowder_local.openclaw.session_keys import session_key
from tests.e2e.copies import ASKED, CODE, copied, local

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.api import Api

pytestmark = [pytest.mark.docker, pytest.mark.nightly, pytest.mark.timeout(600)]

COUNT = 6_000
"""More than OpenClaw keeps by itself; twice as many do not fit into its memory."""
DATABASE = ".openclaw/agents/main/agent/openclaw-agent.sqlite"
SESSION = "the first"
TIMEOUT_S = 120.0


def test_an_imported_agent_remembers_each_of_thousands_of_conversations(
    api: Api, tmp_path: Path
) -> None:
    original = api.created("original")
    api.until(original, "running")
    api.say(original, CODE, session=SESSION)
    exported = local(api, "GET", f"instances/{original}/export", timeout=TIMEOUT_S)
    (tmp_path / "one.tar").write_bytes(exported.content)
    names = [f"session {number}" for number in range(COUNT)]
    multiply(tmp_path, names)
    with (tmp_path / "many.tar").open("rb") as file:
        headers = {"Content-Type": "application/octet-stream"}
        path = "instances/import?name=imported"
        imported = copied(api, path, content=file, headers=headers, timeout=TIMEOUT_S)
    for name in (names[0], names[-1]):
        answer = api.say(imported, ASKED, session=name)
        assert f'Turn 2. You said: "{ASKED}" Before that: "{CODE}"' in answer
    listed = local(api, "GET", f"instances/{imported}/sessions", timeout=TIMEOUT_S).json()
    # And the main one.
    assert len(listed["sessions"]) == COUNT + 2
    assert {each["name"] for each in listed["sessions"]} == {None, SESSION, *names}
    transcript = local(api, "GET", f"instances/{imported}/sessions/{names[1]}/transcript")
    assert transcript.json()["turns"][0]["text"] == CODE
    for each in (original, imported):
        assert api.delete(f"instances/{each}").status_code == 204


def multiply(folder: Path, names: list[str]) -> None:
    """Makes `many.tar` of `one.tar`: SESSION is there once more under each of these names."""
    with tarfile.open(folder / "one.tar") as one, tarfile.open(folder / "many.tar", "w") as many:
        for entry in one:
            file = one.extractfile(entry) if entry.isreg() else None
            content = None if file is None else file.read()
            if content is not None and entry.name == MANIFEST:
                content = _with_names(json.loads(content), names)
            elif content is not None and entry.name == DATABASE:
                (folder / "database").write_bytes(content)
                _multiply_rows(folder / "database", names)
                content = (folder / "database").read_bytes()
            entry.size = len(content or b"")
            many.addfile(entry, None if content is None else io.BytesIO(content))


def _with_names(manifest: dict[str, Any], names: list[str]) -> bytes:
    (session,) = [each for each in manifest["sessions"] if each["name"] == SESSION]
    manifest["sessions"] += [session | {"name": name} for name in names]
    return json.dumps(manifest).encode()


def _multiply_rows(path: Path, names: list[str]) -> None:
    """Copies each row that mentions the session, whatever OpenClaw's tables are."""
    key = session_key(SESSION)
    with closing(sqlite3.connect(path)) as database, database:
        query = "SELECT current_session_id FROM session_nodes WHERE session_key = ?"
        ((session_id,),) = database.execute(query, (key,))
        tables = list(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        indexes = [table for table, sql in tables if sql.startswith("CREATE VIRTUAL TABLE")]
        for table in [table for table, _ in tables if table not in indexes]:
            numbered = _number_of(database, table)
            for row in list(database.execute(f'SELECT * FROM "{table}"')):
                if key not in str(row) and session_id not in str(row):
                    continue
                copies = (
                    [
                        None
                        if index == numbered
                        else value.replace(key, session_key(name)).replace(session_id, _id(name))
                        if isinstance(value, str)
                        else value
                        for index, value in enumerate(row)
                    ]
                    for name in names
                )
                marks = ",".join("?" * len(row))
                database.executemany(f'INSERT INTO "{table}" VALUES ({marks})', copies)
        for index in indexes:
            database.execute(f'INSERT INTO "{index}"("{index}") VALUES (\'rebuild\')')


def _number_of(database: sqlite3.Connection, table: str) -> int | None:
    """The place of a column that SQLite numbers itself, if a table has one."""
    keys = [each for each in database.execute(f'PRAGMA table_info("{table}")') if each[5]]
    return keys[0][0] if len(keys) == 1 and keys[0][2] == "INTEGER" else None


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))
