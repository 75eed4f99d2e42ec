"""The examples of users' tests, on real agents, and failures beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.node import RUN_TIMEOUT_S, node_modules, tool
from tests.e2e.plugin_runs import run
from tests.e2e.serving import bare_environment

if TYPE_CHECKING:
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.long]

EXAMPLES = Path(__file__).parents[2] / "examples"
FAILING = """
import pytest

def test_the_common_instance_without_a_session(
    chowder_common_instance, chowder_organization, chowder_replies
):
    chowder_replies.add("Yes.", equals="hi")
    chowder_replies.add("", text="this", times=1)
    chowder_replies.add({"template": "{{ turn }}: {{ text }}"})
    assert chowder_common_instance.say("hi") == "Yes."
    # The model is asked again after an empty answer, and that is no turn.
    assert chowder_common_instance.say("this") == "2: this"
    assert chowder_replies.used == [1, 1, 1]
    assert chowder_organization.instances == [chowder_common_instance]

def test_that_fails(chowder_common_instance, chowder_session):
    assert chowder_common_instance.say("Hello, agent", chowder_session) == "Nothing like that"

def test_that_asks_what_no_rule_is_about(
    chowder_common_instance, chowder_session, chowder_replies
):
    chowder_replies.add("Yes.", text="something else")
    with pytest.raises(Exception, match="No rule of the reply script"):
        chowder_common_instance.respond("How deep is the sea?", chowder_session)

def test_with_a_rule_too_many(chowder_common_instance, chowder_session, chowder_replies):
    chowder_replies.unused = "fail"
    chowder_replies.add("Yes.", text="hi")
    assert chowder_common_instance.say("hi", chowder_session) == "Yes."
    chowder_replies.add("No.", text="bye")
"""


# The agent that its tests have in common is a new one.
def test_the_order_desk_example_passes_and_a_failure_beside_it_tells_what_was_said_in_it(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    shutil.copytree(EXAMPLES / "pytest", tmp_path, dirs_exist_ok=True)
    for name in ("test_forks.py", "test_states.py"):
        (tmp_path / name).unlink()
    (tmp_path / "test_mine.py").write_text(FAILING)
    done = run(tmp_path, own_server)
    assert "3 failed, 6 passed" in done.stdout, done.stdout + done.stderr
    _, fails, asks, unused = re.split(r"^_+ (?=test_)", done.stdout, flags=re.MULTILINE)
    assert "user: Hello, agent" in fails
    assert "model calls of common" in fails
    assert "ex-" in fails
    assert "log of common" in fails
    # Of the same agent, but said in another test.
    said = fails.partition("log of common")[0]
    assert "Yes." not in said
    assert "ex-" not in said.partition("model calls of common")[0]
    assert "No scripted reply matched:" in asks
    assert "How deep is the sea?" in asks
    assert 'never used:\nreplies[1]: {"match": {"text": "bye"}, "reply": "No."}' in unused
    assert own_server.key not in done.stdout
    # What OpenClaw logs of a failed model call, which the model calls above show better.
    assert "relay-failure-" not in done.stdout
    assert "provider rejected the request schema" not in done.stdout


# Its agent is a new one.
@pytest.mark.slow
def test_the_example_for_node_passes_as_it_stands(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    shutil.copy(EXAMPLES / "node" / "order-desk.test.mjs", tmp_path)
    # As npm would have put them there.
    (tmp_path / "node_modules").symlink_to(node_modules())
    named = {"CHOWDER_BASE_URL": own_server.base_url, "CHOWDER_KEY": own_server.key}
    done = subprocess.run(
        [tool("node"), "--test"], cwd=tmp_path, env=bare_environment() | named,
        capture_output=True, text=True, check=False, timeout=RUN_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 1" in done.stdout
