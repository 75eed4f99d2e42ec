"""Trials as a user meets them: pytest and the command line, on forks of quick agents."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.copies import local
from tests.e2e.plugin_runs import python, run
from tests.e2e.serving import bare_environment
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

TIMEOUT_S = 300
pytestmark = pytest.mark.docker

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


@pytest.mark.nightly
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


CASES = """
trials: 3
cases:
  - name: remembers
    state: {instance: taught}
    message: Hi
    checks:
      - {contains: "Ada"}
      - {regex: "^Turn 2"}
      - {turns_at_most: 1}
      - {cost_usd_at_most: 0}
  - name: a new agent
    message: Hi
    checks: [{contains: "Turn 1"}]
  - name: wrong
    state: {instance: taught}
    message: Hi
    checks:
      - {contains: "Grace"}
      - {file: {path: workspace/none.md, contains: a}}
      - {tool_called: {name: exec}}
  - name: judged in vain
    state: {instance: taught}
    message: Hi
    checks: [{judge: {model: gpt-4o, question: "Is it polite?"}}]
    trials: 1
  - name: too dear
    state: {instance: taught}
    messages: ["ask your model: one", "ask your model: two"]
    checks: [{contains: a}]
    budget: {model_calls: 1}
    trials: 1
  - name: seeded
    state: {seed: seed.yaml, instance: desk}
    messages: [One, Two]
    session: orders
    checks: [{regex: "^Turn 2. First: One"}, {file: {path: workspace/SOUL.md, contains: short}}]
"""
SEED = """
organizations:
  - name: default
    instances:
      - {name: desk, files: {workspace/SOUL.md: "Be short."}}
"""


def begun(server: ServerProcess, folder: Path, *options: str) -> subprocess.Popen[str]:
    """`chowder-local trials cases.yaml` in a folder."""
    named = {
        "CHOWDER_BASE_URL": server.base_url, "CHOWDER_KEY": server.key,
        "CHOWDER_DATA_DIR": str(folder / "data"),
    }  # fmt: skip
    return subprocess.Popen(
        [*python(), "-m", "chowder_local", "trials", "cases.yaml", *options], cwd=folder,
        env=bare_environment() | named, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.nightly
def test_the_command_runs_the_cases_of_a_file_and_fails_if_one_does(
    quick_server: ServerProcess, quick_api: Api, tmp_path: Path
) -> None:
    before = {each["id"] for each in quick_api.get("instances").json()}
    instance_id = quick_api.created("taught")
    quick_api.until(instance_id, "running")
    quick_api.say(instance_id, "My name is Ada.")
    (tmp_path / "cases.yaml").write_text(CASES)
    (tmp_path / "seed.yaml").write_text(SEED)
    with begun(quick_server, tmp_path, "--seed", "5", "--json") as process:
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1, stdout + stderr
    found = {each["name"]: each for each in json.loads(stdout)}
    assert {name: (each["verdict"], each["passed"]) for name, each in found.items()} == {
        "remembers": ("passed", 3), "a new agent": ("passed", 3), "wrong": ("failed", 0),
        "judged in vain": ("undecided", 0), "too dear": ("undecided", 0), "seeded": ("passed", 3),
    }, stdout + stderr  # fmt: skip
    (result, *_) = found["wrong"]["results"]
    assert result["reason"].startswith("the answer does not contain 'Grace'; the file workspace/no")
    reasons = [found[each]["results"][0]["reason"] for each in ("judged in vain", "too dear")]
    assert reasons[0].startswith("it is not checked: gpt-4o wrote neither PASS nor FAIL: 'Turn 1.")
    assert reasons[1].startswith("The agent's budget of 1 model call is spent: ")
    assert {each["seed"] for each in found.values()} == {5}
    new = {each["id"]: each["name"] for each in quick_api.get("instances").json()}
    new = {each: name for each, name in new.items() if each not in before}
    assert sorted(new.values()) == ["desk", "taught"]
    for each in new:
        quick_api.delete(f"instances/{each}")


ENDLESS = """
cases:
  - {name: endless, message: Please wait., checks: [{contains: a}]}
"""


def test_the_command_deletes_its_agents_when_a_signal_ends_it_amid_a_message(
    quick_server: ServerProcess, quick_api: Api, tmp_path: Path
) -> None:
    before = quick_api.get("instances").json()
    (tmp_path / "cases.yaml").write_text(ENDLESS)

    def is_waiting() -> bool:
        forks = [each for each in quick_api.get("instances").json() if "endless " in each["name"]]
        logs = (local(quick_api, "GET", f"instances/{each['id']}/logs").text for each in forks)
        return len(forks) == 2 and all("waiting\n" in each for each in logs)

    with begun(quick_server, tmp_path) as process:
        eventually(is_waiting, "two trials wait for their answers", TIMEOUT_S)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + signal.SIGTERM, stdout + stderr
    assert quick_api.get("instances").json() == before


MEASURED = """
import os
import pytest

@pytest.mark.chowder_trials(8, at_least=0.75)
def test_measured(taught):
    for _ in range(int(os.environ["ASKS"])):
        taught.say("ask your model: hi")

def test_once(taught):
    taught.say("ask your model: hi")
"""


@pytest.mark.nightly
def test_a_run_fails_for_what_became_significantly_worse_and_says_so_where_ci_shows_it(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(TAUGHT + MEASURED)
    options = ("--chowder-baseline", "baseline.json", "-pno:randomly")
    first = run(tmp_path, quick_server, *options, ASKS="1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "The baseline of 2 tests is written to baseline.json." in first.stdout
    kept = (tmp_path / "baseline.json").read_text()
    actions = {
        "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "a/b",
        "GITHUB_RUN_ID": "7", "GITHUB_WORKSPACE": str(tmp_path.parent),
    }  # fmt: skip
    more = ("--chowder-report", "out", "--junitxml", "report.xml", "-n", "1")
    worse = run(tmp_path, quick_server, *options, *more, ASKS="3", **actions)
    assert "2 passed" in worse.stdout, worse.stdout + worse.stderr
    assert worse.returncode == 1
    assert "test_mine.py::test_measured: model calls worse: 1 before, 3 now (p = " in worse.stdout
    line = (TAUGHT + MEASURED).splitlines().index("def test_measured(taught):")
    place = f"::error file={tmp_path.name}/test_mine.py,line={line},title=Worse than the baseline"
    assert f"{place}%3A model calls::test_mine.py" in worse.stdout
    summary = (tmp_path / "summary.md").read_text()
    assert summary == (tmp_path / "out/summary.md").read_text()
    assert "| ✅ | `test_mine.py::test_measured` | 8 of 8 | 24 turns, 24 model calls |" in summary
    assert "🔴 worse: model calls" in summary
    assert "[transcript](https://github.example/a/b/actions/runs/7#artifacts " in summary
    of_trials, of_other = sorted((tmp_path / "out/transcripts").iterdir())
    assert "## trial 8: model calls of test_measured 8" in of_trials.read_text()
    assert "## model calls of taught" in of_other.read_text()
    found = json.loads((tmp_path / "out/gitlab-code-quality.json").read_text())
    assert {each["location"]["lines"]["begin"] for each in found} == {line}
    xml = (tmp_path / "report.xml").read_text()
    assert '<property name="chowder.model_calls" value="24" />' in xml
    assert (tmp_path / "baseline.json").read_text() == kept
    again = run(tmp_path, quick_server, *options, "--chowder-update", ASKS="3")
    assert again.returncode == 1
    assert (tmp_path / "baseline.json").read_text() != kept
