"""The pytest plugin as a user meets it: pytest of its own, in a project of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.plugin_runs import run
from tests.e2e.quick_agents import open_quick_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from tests.e2e.dashboards import Served
    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

EXAMPLES = Path(__file__).parents[2] / "examples" / "pytest"
OF_A_WORKER = """
def test_of_a_worker(chowder_common_instance, chowder_organization, chowder_fork, chowder_replies):
    assert chowder_organization.instances == [chowder_common_instance]
    assert chowder_common_instance.say("Hi") == "Turn 1. First: Hi"
    chowder_replies.add("Yes.", text="hi")
    assert chowder_fork(chowder_common_instance).say("ask your model: hi") == "Yes."
"""
RECORDED = """
import pytest

@pytest.mark.chowder_recording("there")
def test_recorded(chowder_common_instance):
    assert chowder_common_instance.say("ask your model: Good {word}")
"""
UNRECORDED = """
@pytest.mark.chowder_recording("nowhere")
def test_unrecorded():
    pass
"""
MISTAKEN = """
import pytest

def test_typo(chowder_replies):
    chowder_replies.add("x", txt="hello")

def test_fault(chowder_faults):
    chowder_faults("mesage", status=429)
"""
UNMATCHED = """
def test_unmatched(chowder_common_instance, chowder_replies):
    chowder_replies.add("Sunny.", text="weather")
    assert chowder_common_instance.say("ask your model: the wether?") == "Sunny."
"""

HELD = """
def test_held(chowder_common_instance, chowder_hold):
    hold = chowder_hold(chowder_common_instance, text="weather")
    answer = hold.say("ask your model: the weather?")
    call = hold.wait()
    assert "the weather?" in str(call.request["messages"])
    call.answer("Sunny.")
    assert answer.result() == "Sunny."

def test_held_at_its_end(chowder_common_instance, chowder_hold):
    hold = chowder_hold(chowder_common_instance)
    hold.say("ask your model: hi")
    hold.wait()

def test_after_it(chowder_common_instance):
    chowder_common_instance.say("ask your model: hi")
"""
DECIDED = """
def test_decided(chowder_instance, chowder_approvals):
    assert chowder_instance.say("run: rm x") == "ran rm x"
    chowder_approvals.allow("rm ./build/*")
    chowder_approvals.deny("rm *")
    for command in ("rm ./build/a", "rm x", "ls"):
        chowder_instance.say("run: " + command)
    assert chowder_approvals.decided == [
        ("rm ./build/a", "allow_once"), ("rm x", "deny"), ("ls", "allow_once")
    ]
    chowder_approvals.end()
    assert chowder_instance.say("run: rm x") == "ran rm x"
"""
LIMITED = """
import pytest

@pytest.mark.chowder_budget(model_calls=1)
def test_limited(chowder_common_instance):
    for _ in range(2):
        chowder_common_instance.say("ask your model: hi")

def test_after_it(chowder_common_instance):
    chowder_common_instance.say("ask your model: hi")
"""


@pytest.fixture
def quick_relay(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    stand_in: StandIn,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server with the quick image, whose model providers are the stand-in."""
    settings = stand_in.settings | {"CHOWDER_OFFLINE": "false"}
    folder = tmp_path_factory.mktemp("quick_relay")
    with open_quick_server(folder, engine, request.config, settings) as server:
        yield server


@pytest.mark.docker
def test_the_example_of_forks_passes(
    engine: docker.DockerClient, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(EXAMPLES / "test_forks.py", project)
    with open_quick_server(tmp_path, engine, request.config, QUICK_GATEWAY_ASKS="yes") as server:
        done = run(project, server)
        assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.docker
def test_the_examples_of_states_pass(quick_server: ServerProcess, tmp_path: Path) -> None:
    for name in ("test_states.py", "seed.yaml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    done = run(tmp_path, quick_server)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.docker
def test_workers_have_agents_of_their_own_and_replies_are_for_all_agents_of_a_test(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    for name in ("test_one.py", "test_other.py"):
        (tmp_path / name).write_text(OF_A_WORKER)
    done = run(tmp_path, quick_server, "-n", "2", "--dist", "loadfile")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.docker
def test_a_recording_is_made_of_real_models_and_then_answers_or_says_what_differs(
    quick_relay: ServerProcess, tmp_path: Path
) -> None:
    keys = {"ANTHROPIC_API_KEY": "sk-ant-planted"}
    (tmp_path / "test_mine.py").write_text(RECORDED.format(word="morning"))
    made = run(tmp_path, quick_relay, "--chowder-record", **keys)
    assert "1 passed" in made.stdout, made.stdout + made.stderr
    (file,) = (tmp_path / "there").iterdir()
    recorded = file.read_text()
    (tmp_path / "test_mine.py").write_text(RECORDED.format(word="night") + "    assert False\n")
    failed = run(tmp_path, quick_relay, "--chowder-record", **keys)
    assert "1 failed" in failed.stdout, failed.stdout + failed.stderr
    (tmp_path / "test_mine.py").write_text(RECORDED.format(word="night") + UNRECORDED)
    refused = run(tmp_path, quick_relay, "--chowder-record")
    assert "2 failed" in refused.stdout, refused.stdout + refused.stderr
    assert "No recording is made: no real model of anthropic has answered." in refused.stdout
    assert "No recording is made: no model call was answered." in refused.stdout
    assert file.read_text() == recorded
    differs = run(tmp_path, quick_relay)
    assert "1 failed, 1 error" in differs.stdout, differs.stdout + differs.stderr
    assert f"{file.name}: recorded [said: Good morning]" in differs.stdout
    for name in ("recorded", "unrecorded"):
        assert f"Record with: pytest --chowder-record test_mine.py::test_{name}" in differs.stdout
    assert "It was replayed" not in differs.stdout
    (tmp_path / "test_mine.py").write_text(RECORDED.format(word="morning") + "    assert False\n")
    replayed = run(tmp_path, quick_relay)
    assert "It was replayed. Record again with: pytest --chowder-record" in replayed.stdout


def test_a_mistake_shows_the_line_of_the_test_and_one_line_with_what_is_allowed(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(MISTAKEN)
    named = {"CHOWDER_BASE_URL": f"{served.root_url}/v1", "CHOWDER_KEY": served.world.key}
    done = run(tmp_path, None, **named)
    assert "2 failed" in done.stdout, done.stdout + done.stderr
    typo, fault = done.stdout.split("test_fault ___")[:2]
    assert '>       chowder_replies.add("x", txt="hello")\nE ' in typo
    assert "body.replies.0.match.txt: No such member. Did you mean text? Allowed: text, equ" in typo
    assert "body.kind: Input should be 'provisioning', 'create'," in fault
    assert ".py:" not in done.stdout.replace("test_mine.py:", "")


@pytest.mark.docker
def test_a_message_without_a_rule_fails_the_test_with_that_and_not_with_what_follows_from_it(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(UNMATCHED)
    done = run(tmp_path, quick_server)
    headline = (
        'Failed: No scripted reply matched: "the wether?" (turn 1, session main, '
        "model claude-sonnet-4-20250514)"
    )
    assert f"E       {headline}\n" in done.stdout, done.stdout + done.stderr
    assert '>       assert chowder_common_instance.say("ask your model' in done.stdout
    assert "AssertionError" not in done.stdout
    assert "ApiRefused" not in done.stdout


def test_a_test_that_a_budget_ends_fails_with_what_it_says(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(LIMITED)
    done = run(tmp_path, quick_server, "-pno:randomly", "--chowder-budget", "0")
    for words in (
        "Failed: The agent's budget of 1 model call is spent: 1 model call since ",
        "Cost of the run so far: 0.0000 USD. The test's marker chowder_budget sets this budget.",
        'chowder_common_instance.say("ask your model',
        "1 failed, 1 passed",
    ):  # fmt: skip
        assert words in done.stdout, done.stdout + done.stderr
    assert "ApiRefused" not in done.stdout


def test_a_test_answers_a_held_call_and_decides_about_commands(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(HELD)
    (tmp_path / "test_other.py").write_text(DECIDED)
    done = run(tmp_path, quick_server)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_a_run_that_has_nothing_to_do_with_agents_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_sum():\n    assert 1 + 1 == 2\n")
    done = run(tmp_path, None)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert not list(tmp_path.glob(".pytest_cache/**/chowder-local"))


def test_without_a_server_it_says_how_to_get_one(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "test_order_desk.py", tmp_path)
    done = run(tmp_path, None, "--chowder", "running")
    assert done.returncode == 2
    assert "chowder-local up --detach" in done.stdout + done.stderr
