"""The examples of users' tests, on real agents, and failures beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api
from tests.e2e.made_once import made_once
from tests.e2e.node import RUN_TIMEOUT_S, node_modules, packages_of, tool
from tests.e2e.plugin_runs import run
from tests.e2e.serving import bare_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.long]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROMPTFOO = "promptfoo@0.121.20"
EVALUATORS = ("deepeval==4.3.1", "inspect-ai==0.3.285")
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
@pytest.mark.nightly
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
@pytest.mark.nightly
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


def install_evaluators(place: Path) -> None:
    """An environment as a user's: those packages, and this one."""
    uv = (sys.executable, "-m", "uv", "--quiet")
    subprocess.run([*uv, "venv", place / "env"], check=True)
    target = ("--python", place / "env/bin/python")
    subprocess.run([*uv, "pip", "install", *target, *EVALUATORS, "--editable", ROOT], check=True)


@pytest.fixture(scope="module")
def evaluate(
    own_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Runs a command of an evaluation suite in a copy of its examples, beside their agent."""
    folder = tmp_path_factory.mktemp("evaluations")
    shutil.copytree(EXAMPLES / "evaluations", folder, dirs_exist_ok=True)
    (folder / "node_modules").mkdir()
    (folder / "node_modules/chowder-local").symlink_to(ROOT / "js")
    programs = made_once("evaluators", install_evaluators, *EVALUATORS, str(ROOT)) / "env/bin"
    env = bare_environment() | {
        "CHOWDER_BASE_URL": own_server.base_url, "CHOWDER_KEY": own_server.key,
        "CHOWDER_DATA_DIR": str(own_server.data_dir), "HOME": str(folder),
        "PATH": f"{programs}:{packages_of(PROMPTFOO) / '.bin'}:{own_server.env['PATH']}",
        "PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1",
        "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
    }  # fmt: skip

    def call(*words: str) -> str:
        done = subprocess.run(
            words, cwd=folder, env=env, capture_output=True, text=True, check=False,
            timeout=RUN_TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("chowder-local", "seed", "seed.yaml")
    call("chowder-local", "replies", "set", "replies.yaml")
    yield call
    call("chowder-local", "replies", "clear")
    call("chowder-local", "instances", "rm", "desk", "--yes")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("promptfoo eval --no-cache", "2 passed"),
        (
            "inspect eval inspect_desk.py --model none --max-samples 2 --display plain",
            "accuracy  1.000",
        ),
        ("deepeval test run test_deepeval_desk.py", "Passed: 2 | Failed: 0"),
    ],
    ids=["promptfoo", "inspect", "deepeval"],
)
def test_an_evaluation_suite_asks_each_sample_of_a_fork(
    own_server: ServerProcess, evaluate: Callable[..., str], command: str, words: str
) -> None:
    with Api(own_server.base_url, own_server.key) as api:
        before = api.get("instances").json()
        assert words in evaluate(*command.split())
        assert api.get("instances").json() == before
