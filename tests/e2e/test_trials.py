"""Trials as a user meets them: pytest, on forks of quick agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.plugin_runs import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

TAUGHT = """
import pytest

@pytest.fixture(scope="module")
def taught(chowder_organization):
    agent = chowder_organization.create_instance("taught")
    agent.say("My name is Ada.")
    yield agent
    agent.delete()
"""
PASSING = """
@pytest.mark.chowder_trials(5, at_least=0.8, seed=7)
async def test_on_forks(taught, chowder_organization, chowder_trial, chowder_fork, tmp_path):
    (tmp_path / "own").mkdir()
    assert await taught.asay("Hi") == "Turn 2. First: My name is Ada."
    assert chowder_fork(taught).say("Hi") == "Turn 3. First: My name is Ada."
    assert taught.name.endswith(f" {chowder_trial.number}")
    assert chowder_trial.number != 2

def test_the_prepared_agent_is_as_it_was(taught, chowder_organization):
    assert chowder_organization.instances == [taught]
    assert taught.say("Hi") == "Turn 2. First: My name is Ada."

@pytest.mark.chowder_trials(3, isolation="session")
def test_in_sessions(chowder_common_instance, chowder_session):
    assert chowder_common_instance.say("Hi", chowder_session) == "Turn 1. First: Hi"

@pytest.mark.chowder_trials(3)
def test_with_rules_of_its_own(taught, chowder_trial, chowder_replies):
    chowder_replies.add(str(chowder_trial.number), text="which")
    assert taught.say("ask your model: which") == str(chowder_trial.number)
"""
FAILING = """
@pytest.mark.chowder_trials(10, at_least=0.9)
def test_that_fails(taught, chowder_trial):
    said = taught.say(f"I am trial {chowder_trial.number}, with {chowder_trial.random.random()}")
    assert said == "Nothing like that"

@pytest.mark.chowder_trials(4)
@pytest.mark.chowder_budget(model_calls=1)
def test_undecided(taught):
    for _ in range(2):
        taught.say("ask your model: hi")
"""


def test_a_body_runs_on_forks_until_enough_trials_have_passed(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(TAUGHT + PASSING)
    done = run(tmp_path, quick_server)
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert (
        "test_mine.py::test_on_forks\n  passed: 4 of 5 trials passed (0.8; interval "
    ) in done.stdout
    assert "At least 0.8 should pass. Seed 7.\n" in done.stdout


def test_trials_that_fail_are_reported_with_their_seeds_and_agents_and_can_be_repeated(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(TAUGHT + FAILING)
    done = run(tmp_path, quick_server, "--chowder-seed", "5")
    assert "2 failed" in done.stdout, done.stdout + done.stderr
    for words in (
        "failed: 0 of 2 trials passed (0; interval ",
        "Trials that are failed: 1 (seed ",
        '>       assert said == "Nothing like that"\nE       AssertionError: assert \'Turn 2. ',
        "trial 1: log of test_that_fails 1",
        "undecided: The agent's budget of 1 model call is spent: ",
        "4 undecided. At least 1 should pass. No trial has an outcome.",
    ):
        assert words in done.stdout, done.stdout + done.stderr
    again = run(tmp_path, quick_server, "--chowder-seed", "5", "-k", "fails")
    drawn = "I am trial 1, with 0."
    assert drawn in done.stdout
    (number,) = {
        line.partition(drawn)[2] for line in done.stdout.splitlines() if line.startswith(drawn)
    }
    assert drawn + number in again.stdout
