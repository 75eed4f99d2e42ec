"""The program that takes the log of runs out of what is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.openclaw.programs import scrub as program
from tests.scripted.agents import CONVERSATIONS, agent_at, opened, told

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_left_of_the_log_and_all_of_what_was_said(tmp_path: Path) -> None:
    state = agent_at(tmp_path, "teal")
    writing = opened(state / CONVERSATIONS)
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
    assert told(state) == ["teal"]
    assert told(state, "trajectoryless") == ["kept"]
