"""The program that removes the log of runs from an export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.openclaw.programs import scrub as program
from tests.scripted.agents import CONVERSATIONS, agent_at, connect, first_column

if TYPE_CHECKING:
    from pathlib import Path


def test_the_log_is_erased_and_the_conversations_stay(tmp_path: Path) -> None:
    state = agent_at(tmp_path, "teal")
    writing = connect(state / CONVERSATIONS)
    with writing as database:
        database.execute("CREATE TABLE trajectory_runtime_events (words TEXT)")
        database.execute("INSERT INTO trajectory_runtime_events VALUES ('my-secret')")
        database.execute("CREATE TABLE trajectoryless (words TEXT)")
        database.execute("INSERT INTO trajectoryless VALUES ('kept')")
    (state / "agents/main/agent/lock.sqlite").touch()
    (state / "agents/main/link.sqlite").symlink_to("nowhere")
    program.run(str(tmp_path))
    written = b"".join(path.read_bytes() for path in (state / "agents/main/agent").iterdir())
    assert b"my-secret" not in written
    assert first_column(state) == ["teal"]
    assert first_column(state, "trajectoryless") == ["kept"]
