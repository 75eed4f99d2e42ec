"""The program that replaces a running agent's state."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.home.sanitize import sanitize_home
from chowder_local.openclaw.jobs import PLACEHOLDER
from chowder_local.openclaw.programs import transfer_state as program
from tests.scripted.agents import CONVERSATIONS, STATE, agent_at, connect, first_column
from tests.scripted.local_processes import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in sandboxes only")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return agent_at(tmp_path / "original", "teal", "what did I ask?")


@pytest.fixture
def warm_sandbox(tmp_path: Path) -> Path:
    return agent_at(tmp_path / "warm sandbox", "warm-up")


def archive_of(state: Path) -> bytes:
    raw, target = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.add(state.parent, "data")
    sanitize_home([raw.getvalue()], target, prefix="data/", is_strict=False)
    return target.getvalue()


def outcome(warm_sandbox: Path, archive: bytes) -> dict[str, Any]:
    with closing(program.Agent(str(warm_sandbox.parent))) as agent:
        unpack(agent.staged, [archive])
        return program.outcome_of(agent.apply)


def test_a_process_with_an_open_database_sees_the_new_conversations(
    original: Path, warm_sandbox: Path
) -> None:
    with (
        connect(warm_sandbox / CONVERSATIONS) as live,
        connect(original / CONVERSATIONS) as writing,
    ):
        # Rows that are only in the WAL count; rows that the warm sandbox has read do not.
        writing.execute("INSERT INTO transcript_events VALUES ('in the WAL')")
        assert live.execute("SELECT * FROM transcript_events").fetchall() == [("warm-up",)]
        assert outcome(warm_sandbox, archive_of(original)) == {"done": True}
        rows = live.execute("SELECT * FROM transcript_events").fetchall()
        assert rows == [("teal",), ("what did I ask?",), ("in the WAL",)]
        live.execute("INSERT INTO transcript_events VALUES ('goes on')")
    assert "goes on" in first_column(warm_sandbox)
    assert "goes on" not in first_column(original)


def test_tables_that_are_read_when_needed_come_along_and_the_sandboxs_own_stay(
    original: Path, warm_sandbox: Path
) -> None:
    with connect(original / STATE) as database:
        database.execute("INSERT INTO exec_approvals_config VALUES ('current', '{}')")
        database.execute("INSERT INTO operator_approvals VALUES ('a-1', 'pending')")
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}
    # The policy of approvals, and nothing that waits for one.
    assert first_column(warm_sandbox, "exec_approvals_config", STATE) == ["current"]
    assert first_column(warm_sandbox, "operator_approvals", STATE) == []
    placements = first_column(warm_sandbox, "worker_session_placements", STATE)
    assert placements == ["teal", "what did I ask?"]
    assert first_column(warm_sandbox, "state_leases", STATE) == [str(warm_sandbox.parent)]


def test_files_are_replaced_by_those_of_the_archive(original: Path, warm_sandbox: Path) -> None:
    (original / "workspace/deep").mkdir()
    (original / "workspace/deep/notes.md").write_text("hello")
    (original / "upload.txt").write_text("at the root")
    (original / "odd").write_text("a file here")
    (original.parent / ".profile").write_text("of the home")
    (original / "workspace/link").symlink_to("deep/notes.md")
    (warm_sandbox / "workspace/own.md").write_text("of the warm sandbox")
    (warm_sandbox / "odd").mkdir()
    (warm_sandbox / "odd/x").write_text("")
    (warm_sandbox / "openclaw.json").write_text("{}")
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}
    files = {p.name for p in (warm_sandbox / "workspace").rglob("*")}
    assert files == {"AGENTS.md", "deep", "notes.md", "link"}
    assert (warm_sandbox / "workspace/link").read_text() == "hello"
    assert (warm_sandbox / "upload.txt").read_text() == "at the root"
    assert (warm_sandbox / "odd").read_text() == "a file here"
    assert (warm_sandbox.parent / ".profile").read_text() == "of the home"
    assert (warm_sandbox / "openclaw.json").read_text() == "{}"
    assert list((warm_sandbox / "tmp").iterdir()) == []


def test_without_a_state_database_the_sandboxs_own_stays(
    original: Path, warm_sandbox: Path
) -> None:
    without(original / "state")
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}
    assert first_column(warm_sandbox, "worker_session_placements", STATE) == ["warm-up"]


def test_an_agent_that_was_never_spoken_with_gets_the_empty_conversations(
    original: Path, warm_sandbox: Path
) -> None:
    without(original / "agents/main/agent")
    (original / "workspace/own.md").write_text("hello")
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}
    assert first_column(warm_sandbox) == ["warm-up"]
    placements = first_column(warm_sandbox, "worker_session_placements", STATE)
    assert placements == ["teal", "what did I ask?"]
    assert (warm_sandbox / "workspace/own.md").read_text() == "hello"


def test_an_empty_folder_is_no_state(original: Path, warm_sandbox: Path) -> None:
    (original / "worktrees").mkdir()
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}


def with_plugins(state: Path) -> None:
    (state / "npm/some").mkdir(parents=True)


def with_another_agent(state: Path) -> None:
    (state / "agents/helper").mkdir()


def without(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def without_databases(state: Path) -> None:
    without(state / "agents/main/agent")
    without(state / "state")


def of_another_version(state: Path) -> None:
    with connect(state / CONVERSATIONS) as database:
        database.execute("PRAGMA user_version = 24")


def with_tasks(state: Path) -> None:
    with connect(state / STATE) as database:
        database.execute("INSERT INTO task_runs VALUES ('t')")


def with_a_schedule(state: Path) -> None:
    with connect(state / STATE) as database:
        database.execute("INSERT INTO cron_jobs VALUES (NULL, 1, 'mine')")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_plugins, "it has npm"),
        (with_another_agent, "more than one agent"),
        (without_databases, "no database"),
        (of_another_version, "another version"),
        (with_tasks, "it has task_runs"),
        (with_a_schedule, "cron_jobs of its own"),
    ],
)
def test_state_that_needs_a_start_is_not_applied(
    original: Path, warm_sandbox: Path, change: Any, words: str
) -> None:
    change(original)
    answer = outcome(warm_sandbox, archive_of(original))
    assert answer["done"] is False
    assert words in answer["reason"]
    assert first_column(warm_sandbox) == ["warm-up"]
    assert list((warm_sandbox / "tmp").iterdir()) == []


def test_rows_that_every_agent_gets_are_no_reason_for_a_start(
    original: Path, warm_sandbox: Path
) -> None:
    with connect(original / STATE) as database:
        for row in (
            ("matrix", "inbound-dedupe-migration-state", "sqlite-json-to-claimable-v1"),
            ("memory-core", "short-term-locks", "the lock of a process that has ended"),
        ):
            database.execute("INSERT INTO plugin_state_entries VALUES (?, ?, ?)", row)
        for key, is_enabled in (
            ("skill-collection-review:main", 1),
            (PLACEHOLDER["declarationKey"], 0),
        ):
            database.execute("INSERT INTO cron_jobs VALUES (?, ?, 'j')", (key, is_enabled))
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}


def test_the_state_of_channels_goes_along(original: Path, warm_sandbox: Path) -> None:
    rows = [
        ("telegram", "telegram.update-offsets", "default"),
        ("telegram-message-dispatch-dedupe", "telegram.message-dispatch-dedupe.1", "k.1"),
    ]
    with connect(original / STATE) as database:
        database.executemany("INSERT INTO plugin_state_entries VALUES (?, ?, ?)", rows)
        database.execute("INSERT INTO channel_pairing_allow_entries VALUES ('telegram', '1')")
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}
    with connect(warm_sandbox / STATE) as database:
        assert database.execute("SELECT * FROM plugin_state_entries").fetchall() == rows
        assert database.execute("SELECT * FROM channel_pairing_allow_entries").fetchall() == [
            ("telegram", "1")
        ]


def test_a_broken_database_changes_nothing(original: Path, warm_sandbox: Path) -> None:
    (original / STATE).write_bytes(b"none" * 1000)
    assert "DatabaseError" in outcome(warm_sandbox, archive_of(original))["error"]
    assert first_column(warm_sandbox) == ["warm-up"]


def test_the_program_answers_line_by_line_and_leaves_nothing(
    original: Path, warm_sandbox: Path
) -> None:
    output = io.StringIO()

    def requests() -> Iterator[str]:
        yield "ready\n"
        assert list((warm_sandbox / "tmp").iterdir()) == []
        yield "apply\n"
        yield "stage\n"
        folder = json.loads(output.getvalue().splitlines()[-1])["staged"]
        unpack(folder, [archive_of(original)])
        yield "stage\n"
        yield "apply\n"

    program.serve(str(warm_sandbox.parent), requests(), output)  # type: ignore[arg-type]  # lines will do
    answers = [json.loads(line) for line in output.getvalue().splitlines()]
    assert answers[0] == answers[1] == answers[3] == {}
    assert answers[4] == {"done": True}
    assert first_column(warm_sandbox) == ["teal", "what did I ask?"]
    assert list((warm_sandbox / "tmp").iterdir()) == []


def test_a_program_without_requests_leaves_no_folder(warm_sandbox: Path) -> None:
    program.serve(str(warm_sandbox.parent), io.StringIO("ready\n"), io.StringIO())
    program.serve(str(warm_sandbox.parent), io.StringIO("ready\nstage\n"), io.StringIO())
    assert list((warm_sandbox / "tmp").iterdir()) == []
    assert first_column(warm_sandbox) == ["warm-up"]


def test_apply_waits_for_the_gateways_database(
    original: Path, warm_sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = warm_sandbox / "later.sqlite"
    (warm_sandbox / CONVERSATIONS).rename(later)
    # Not patched in the module itself, because other threads sleep, too.
    waiting = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda _: later.rename(warm_sandbox / CONVERSATIONS)
    )
    monkeypatch.setattr(program, "time", waiting)
    assert outcome(warm_sandbox, archive_of(original)) == {"done": True}


def test_a_missing_database_needs_a_start(
    original: Path, warm_sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "CREATE_TIMEOUT_S", 0.05)
    with connect(warm_sandbox / CONVERSATIONS) as database:
        database.execute("PRAGMA user_version = 0")
    assert "has not created its database" in outcome(warm_sandbox, archive_of(original))["reason"]


@pytest.fixture
def blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blank database of an image."""
    state = agent_at(tmp_path / "image")
    for name in (CONVERSATIONS, STATE):
        made_by(state, name, "2026.9.6")
    with connect(state / STATE) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(program, "BLANK", str(state / STATE))


def made_by(state: Path, name: str, release: str) -> None:
    with connect(state / name) as database:
        database.execute("CREATE TABLE schema_meta (meta_key TEXT, app_version TEXT)")
        database.execute("INSERT INTO schema_meta VALUES ('primary', ?)", (release,))


def checked(warm_sandbox: Path, archive: bytes) -> dict[str, Any]:
    with closing(program.Agent(str(warm_sandbox.parent))) as agent:
        unpack(agent.staged, [archive])
        answer = program.outcome_of(agent.check)
        # They are not opened: a gateway that starts needs them for itself.
        assert agent.databases == {}
        return answer


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, None),
        (with_plugins, "it has npm"),
        (with_tasks, "it has task_runs"),
        (with_a_schedule, "cron_jobs of its own"),
    ],
)
def test_check_finds_state_that_needs_a_start_before_the_gateway_runs(
    original: Path, tmp_path: Path, change: Any, words: str | None
) -> None:
    made_by(original, CONVERSATIONS, "2026.9.6")
    if change is not None:
        change(original)
    (booting := tmp_path / "booting/.openclaw").mkdir(parents=True)
    answer = checked(booting, archive_of(original))
    assert answer["done"] is (words is None)
    assert words is None or words in answer["reason"]


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("is_spoken_with", [True, False])
def test_a_database_of_another_release_needs_a_start(
    original: Path, warm_sandbox: Path, is_spoken_with: bool
) -> None:
    made_by(original, CONVERSATIONS if is_spoken_with else STATE, "2026.9.5")
    if not is_spoken_with:
        without(original / "agents/main/agent")
    assert "another version" in checked(warm_sandbox, archive_of(original))["reason"]


def cleared(used: Path, blank: Path) -> dict[str, Any]:
    with closing(program.Agent(str(used.parent))) as agent:
        unpack(agent.staged, [archive_of(blank)])
        return program.outcome_of(agent.clear)


def test_nothing_of_a_cleared_home_is_left_on_the_disk(
    original: Path, warm_sandbox: Path, tmp_path: Path
) -> None:
    secret = b"the color is teal"
    places = [
        original.parent / ".cache/note",
        original / "note",
        original / "openclaw.json.bak",
        original / "tmp/note",
        original / "agents/main/agent/note",
        original / "workspace/memory/note.md",
        original / "agents/main/folder/note",
    ]
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(secret)
    with connect(original / STATE) as database, connect(original / CONVERSATIONS) as live:
        database.execute("INSERT INTO operator_approvals VALUES (?, 'once')", (secret.decode(),))
        database.execute("INSERT INTO exec_approvals_config VALUES (?, '{}')", (secret.decode(),))
        # Deleted rows stay in free pages, and in the log, until something is written over them.
        live.executemany("INSERT INTO transcript_events VALUES (?)", [(secret.decode(),)] * 1000)
        live.execute("DELETE FROM transcript_events WHERE rowid % 2")
        assert cleared(original, warm_sandbox) == {"done": True}
        assert live.execute("SELECT * FROM transcript_events").fetchall() == [("warm-up",)]
        files = [each for each in (tmp_path / "original").rglob("*") if each.is_file()]
        assert [each for each in files if secret in each.read_bytes()] == []
    assert (original / "workspace/AGENTS.md").exists()
    assert not (original / "agents/main/folder").exists()


def test_a_home_of_which_a_gateway_keeps_something_in_memory_is_not_cleared(
    original: Path, warm_sandbox: Path, tmp_path: Path
) -> None:
    with connect(original / STATE) as database:
        database.execute("INSERT INTO task_runs VALUES ('task-1')")
    answer = cleared(original, warm_sandbox)
    assert answer == {"done": False, "reason": "it has task_runs"}
    assert "teal" in first_column(original)


def test_a_folder_is_emptied_of_all_but_what_a_program_holds_open(tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (outside / "file").touch()
    (folder := tmp_path / "folder").mkdir()
    (folder / "deep/deeper").mkdir(parents=True)
    (folder / "deep/link").symlink_to(outside)
    (folder / "closed").mkdir()
    (folder / "closed/file").touch(0o000)
    (folder / "closed").chmod(0o500)
    (folder / "locks").mkdir()
    (folder / "locks/free").touch()
    with (folder / "locks/held").open("w"):
        program.empty(str(folder))
        assert sorted(folder.rglob("*")) == [folder / "locks", folder / "locks/held"]
    program.empty(str(folder))
    assert list(folder.iterdir()) == []
    assert (outside / "file").exists()


def test_a_home_is_cleared_once_openclaw_has_written_its_index(
    original: Path, warm_sandbox: Path, tmp_path: Path
) -> None:
    with connect(original / program.INDEXING) as indexing:
        indexing.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as beside:
            clearing = beside.submit(cleared, original, warm_sandbox)
            with connect(original / CONVERSATIONS) as live:
                live.execute("INSERT INTO transcript_events VALUES ('late')")
                assert not clearing.done()
                indexing.execute("COMMIT")
                assert clearing.result(timeout=20) == {"done": True}
                assert live.execute("SELECT * FROM transcript_events").fetchall() == [("warm-up",)]


def test_a_started_gateway_that_keeps_something_in_memory_is_known(
    original: Path, warm_sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "BLANK", str(warm_sandbox / STATE))
    with closing(program.Agent(str(original.parent))) as agent:
        assert program.outcome_of(agent.check_own) == {"done": True}
        with connect(original / STATE) as database:
            database.execute("INSERT INTO task_runs VALUES ('task-1')")
        answer = program.outcome_of(agent.check_own)
    assert answer == {"done": False, "reason": "it has task_runs"}
