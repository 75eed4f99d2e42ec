"""Golden transcripts of a real agent, written and compared by pytest as a user runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.plugin_runs import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

# An agent that is there already, as a boot takes long.
TEST = """
import os
import uuid

import pytest
from chowder_local.client import Client
from chowder_local.testing import LiveOrganization

@pytest.mark.parametrize("name", ["where", "other"])
def test_golden(chowder_golden, name):
    url, key = os.environ["CHOWDER_BASE_URL"], os.environ["CHOWDER_KEY"]
    with Client(url, key) as client:
        agent, session = LiveOrganization(client, key).adopt(os.environ["AGENT"]), uuid.uuid4().hex
        rule = {{"match": {{"session": session}}, "reply": [
            {{"call": "exec", "arguments": {{"command": "echo it is; date +%FT%TZ"}}}}, "{answer}"
        ]}}
        agent.replies.set([rule])
        agent.say("Where is order 7?", session)
        agent.replies.clear()
        chowder_golden(name, agent, session)
"""


def test_a_conversation_is_compared_with_its_golden_transcript_turn_by_turn(
    server: ServerProcess, instance: str, tmp_path: Path
) -> None:
    test, named = tmp_path / "test_mine.py", {"AGENT": instance}
    test.write_text(TEST.format(answer="On its way."))
    written = run(tmp_path, server, "--chowder-update", "-k", "where", **named)
    assert "1 passed" in written.stdout, written.stdout + written.stderr
    golden = (tmp_path / "golden/where.txt").read_text()
    assert golden.startswith("user\n  Where is order 7?\ntool_call exec\n  {\n"), golden
    assert "\ntool_result exec\n  it is\n  <time>\n" in golden
    assert golden.endswith("\nassistant\n  On its way.\n")
    # Another session, at another time and with other ids.
    again = run(tmp_path, server, **named).stdout
    assert "1 failed, 1 passed" in again, again
    assert "There is no golden transcript" in again
    assert "Write it with: pytest --chowder-update 'test_mine.py::test_golden[other]'" in again
    test.write_text(TEST.format(answer="Gone."))
    differs = run(tmp_path, server, "-k", "where", **named).stdout
    for words in ("turn 4 differs:", "-  On its way.", "+  Gone.", "1 failed"):
        assert words in differs, differs
    assert (tmp_path / "golden/where.txt").read_text() == golden
