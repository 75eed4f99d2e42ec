"""The program that erases a conversation from an agent's databases."""

from __future__ import annotations

import io
import json
import sys
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.programs import erase_session as program
from tests.scripted.agents import CONVERSATIONS, STATE, agent_at, connect, first_column

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in sandboxes only")

KEY, WINDOW, RUN = "agent:main:s-warm-up", "5d1c47d3", "resp_0b1c1d16"


@pytest.fixture(autouse=True)
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of /proc: a gateway that is idle."""
    monkeypatch.setattr(program, "PROCESSES", str(tmp_path / "proc"))
    monkeypatch.setattr(program, "IDLE_INTERVAL_S", 0)
    thread = tmp_path / "proc/7/task/8/stat"
    thread.parent.mkdir(parents=True)
    thread.write_text("8 (node) w) S 1 7")
    return thread


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An agent with two conversations, one of which the tests erase."""
    state = agent_at(tmp_path)
    with connect(state / CONVERSATIONS) as agent:
        add_message(agent, "agent:main:kept", "b7c4a6ef", "salmon")
        add_message(agent, KEY, WINDOW, "marmalade")
    with connect(state / STATE) as shared:
        shared.execute("CREATE TABLE audit (n INTEGER PRIMARY KEY AUTOINCREMENT, k, run_id)")
        shared.execute("CREATE TABLE later (run_id TEXT, text TEXT)")
        shared.execute("INSERT INTO audit VALUES (7, ?, ?)", (KEY, RUN))
        shared.execute("INSERT INTO later VALUES (?, 'marmalade')", (RUN,))
    return state


def add_message(agent: sqlite3.Connection, key: str, window: str, words: str) -> None:
    agent.executescript("""
        CREATE TABLE IF NOT EXISTS nodes (key TEXT PRIMARY KEY, current_session_id TEXT);
        CREATE TABLE IF NOT EXISTS windows (
            session_id TEXT PRIMARY KEY, key TEXT REFERENCES nodes(key) ON DELETE CASCADE);
        CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, path TEXT, text TEXT);
        CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(text);
        CREATE TRIGGER IF NOT EXISTS found AFTER DELETE ON texts
            BEGIN DELETE FROM search WHERE rowid = OLD.id; END;
        CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, session_id UNINDEXED);
    """)
    agent.execute("INSERT INTO nodes VALUES (?, ?)", (key, window))
    agent.execute("INSERT INTO windows VALUES (?, ?)", (window, key))
    cursor = agent.execute("INSERT INTO texts (path, text) VALUES (?, ?)", (f"s/{window}.l", words))
    agent.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (cursor.lastrowid, words))
    # No trigger takes this away.
    agent.execute("INSERT INTO words VALUES (?, ?)", (words, window))


def erased(state: Path, ids: Sequence[str] = ()) -> dict[str, Any]:
    output = io.StringIO()
    question = {"op": "erase", "home": str(state.parent), "key": KEY, "ids": ids}
    program.serve(io.StringIO(f"{json.dumps(question)}\n"), output)
    answer: dict[str, Any] = json.loads(output.getvalue())
    return answer


def written(state: Path) -> bytes:
    files = [*(state / "agents/main/agent").iterdir(), *(state / "state").iterdir()]
    return b"".join(path.read_bytes() for path in files)


def test_one_conversation_is_erased_and_the_others_stay(state: Path) -> None:
    # An open connection stays valid, and free pages have no text left.
    with connect(state / CONVERSATIONS) as live:
        assert live.execute("SELECT count(*) FROM search('marmalade')").fetchone() == (1,)
        ids = sorted([KEY, WINDOW, RUN])
        found = {"ids": ids, "is_found": True, "is_truncated": True}
        assert erased(state) == {"ok": True, "payload": found}
        assert live.execute("SELECT key FROM nodes").fetchall() == [("agent:main:kept",)]
        assert live.execute("SELECT count(*) FROM search('salmon')").fetchone() == (1,)
        assert live.execute("SELECT text FROM words").fetchall() == [("salmon",)]
        for gone in (KEY, WINDOW, RUN, "marmalade"):
            assert gone.encode() not in written(state)
    assert first_column(state, "windows") == ["b7c4a6ef"]
    # The next row's number does not reveal it either.
    with connect(state / STATE) as shared:
        shared.execute("INSERT INTO audit (k) VALUES ('first')")
        assert shared.execute("SELECT n FROM audit").fetchall() == [(1,)]


def test_what_is_written_after_it_is_found_by_the_ids(state: Path) -> None:
    ids = erased(state)["payload"]["ids"]
    with connect(state / CONVERSATIONS) as agent:
        agent.execute("INSERT INTO words VALUES ('marmalade', ?)", (WINDOW,))
    assert not erased(state)["payload"]["is_found"]
    assert erased(state, ids)["payload"]["is_found"]
    assert b"marmalade" not in written(state)
    assert not erased(state, ids)["payload"]["is_found"]


def test_what_openclaw_has_deleted_itself_is_erased_from_its_log(state: Path) -> None:
    ids = erased(state)["payload"]["ids"]
    with connect(state / CONVERSATIONS) as agent:
        agent.execute("PRAGMA wal_autocheckpoint = 0")
        agent.execute("INSERT INTO words VALUES ('marmalade', ?)", (WINDOW,))
        agent.execute("DELETE FROM words WHERE session_id = ?", (WINDOW,))
        assert b"marmalade" in written(state)
        assert erased(state, ids)["payload"]["is_found"]
        assert b"marmalade" not in written(state)
    assert not erased(state, ids)["payload"]["is_found"]


@pytest.mark.parametrize("state_of_thread", ["R", "D"])
def test_it_waits_until_the_agent_is_idle(
    state_of_thread: str, state: Path, processes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = processes.read_text()
    processes.write_text(idle.replace(" S ", f" {state_of_thread} "))
    waits = 0

    def rest(_: float) -> None:
        nonlocal waits
        waits += 1
        assert WINDOW.encode() in written(state)
        processes.write_text(idle)

    # Not time.sleep itself, which other threads call.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=rest)
    monkeypatch.setattr(program, "time", clock)
    assert erased(state)["payload"]["is_found"]
    # The look at which it was busy does not count.
    assert waits == 1 + program.IDLE_LOOKS


def test_an_agent_that_is_never_idle_is_not_waited_for_without_end(
    state: Path, processes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "IDLE_TIMEOUT_S", 0.05)
    processes.write_text(processes.read_text().replace(" S ", " R "))
    assert erased(state)["ok"]


def test_a_trigger_that_restores_an_id_makes_the_erasure_fail(state: Path) -> None:
    with connect(state / CONVERSATIONS) as agent:
        agent.executescript("""
            CREATE TABLE tombstones (id TEXT);
            CREATE TRIGGER noted AFTER DELETE ON nodes
                BEGIN INSERT INTO tombstones VALUES (OLD.key); END;
            CREATE TRIGGER kept AFTER DELETE ON tombstones
                BEGIN INSERT INTO tombstones VALUES (OLD.id); END;
        """)
    assert (
        erased(state)["error"]["message"] == "Remaining: tombstones still mentions the conversation"
    )


def test_an_agent_without_databases_gets_none(state: Path) -> None:
    for path in (state / "agents/main/agent").iterdir():
        path.unlink()
    assert "unable to open" in erased(state)["error"]["message"]
    assert list((state / "agents/main/agent").iterdir()) == []


def test_a_reader_of_the_wal_delays_the_erasure_only_for_a_while(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "CHECKPOINT_TIMEOUT_S", 0.06)
    with connect(state / CONVERSATIONS) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM nodes").fetchone()
        with closing(program.connect(str(state / CONVERSATIONS))) as database:
            database.execute("PRAGMA busy_timeout = 0")
            database.execute("DELETE FROM nodes")
            assert not program.truncate_log(database)
        assert reading.execute("SELECT count(*) FROM nodes").fetchone() == (2,)
