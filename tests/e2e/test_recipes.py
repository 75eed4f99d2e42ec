"""The recipes for CI services, carried out as their runners would, on the real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.e2e.github_runner import Failed, GitHubRunner
from tests.e2e.gitlab_runner import job, run_job
from tests.e2e.made_once import made_once
from tests.e2e.serving import bare_environment, free_port
from tests.e2e.whole_life import assert_nothing_left

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = [pytest.mark.docker, pytest.mark.nightly]

ROOT = Path(__file__).parents[2]
PARTS = ("chowder_local", "docker", "docs", "js", "scripts")
ENVIRONMENT = (
    "requirements.lock",
    "requirements-dev.lock",
    "pyproject.toml",
    "scripts/environment",
)
FILES = ("action.yml", "pyproject.toml", "README.md", "requirements.lock", "requirements-dev.lock")
REPLIES = "- match: {text: hello}\n  reply: Hello, pipeline.\n"
TALK = """
id=$(chowder-local instances create from-ci)
curl -sSf "$CHOWDER_BASE_URL/instances/$id/responses" -H "Authorization: Bearer $CHOWDER_KEY" \
  -H "Content-Type: application/json" -d '{"model": "gpt-4o", "input": "ask your model: Hello"}'
"""

JUDGED = """
def test_greeting(chowder_instance, chowder_replies):
    chowder_replies.add("Hello.", text="hello")
    assert chowder_instance.say("ask your model: hello") == "Good day."
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This project as the template for GitLab gets it.

    The first test makes its environment, which is cached for later runs with the same locks. An
    environment cannot be moved, so the checkout is always in the same folder.
    """
    source = tmp_path_factory.mktemp("recipes") / "project"
    inputs = [(ROOT / each).read_bytes() for each in ENVIRONMENT]
    folder = made_once("recipes", lambda _: None, *inputs, sys.version, sys.base_prefix)
    with FileLock(folder / "in-use.lock"):
        target, environment = folder / "checkout", folder / "environment"
        if (target / ".venv").exists():
            (target / ".venv").rename(environment)
        shutil.rmtree(target, ignore_errors=True)
        clone(source, target)
        if environment.exists():
            environment.rename(target / ".venv")
        yield target


def clone(source: Path, target: Path) -> None:
    """Commits this project to a repository, from which the template clones it."""
    source.mkdir()
    for part in PARTS:
        shutil.copytree(
            ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
    for file in FILES:
        shutil.copy(ROOT / file, source)
    for arguments in (
        ["init", "--quiet", "--initial-branch", "main"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "--quiet", "-m", "All"],
    ):
        subprocess.run(["git", *arguments], cwd=source, check=True)
    getting = job(source / "scripts/gitlab-ci.yml", {"extends": ".chowder-local"})
    names = {"LOCAL_AGENTS_URL": source.as_uri(), "LOCAL_AGENTS_DIR": str(target)}
    names["LOCAL_AGENTS_REF"] = getting["variables"]["LOCAL_AGENTS_REF"]
    subprocess.run(
        ["bash", "-ec", getting["before_script"][0]], env=bare_environment() | names, check=True
    )


@pytest.fixture
def env(image: str) -> dict[str, str]:
    """A job's: as few agents as do, there at once, and no other test's memory counted."""
    return bare_environment() | {
        "CHOWDER_IMAGE": image, "CHOWDER_MAX_SANDBOXES": "16", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip


@pytest.fixture
def runner(
    tmp_path: Path, env: dict[str, str], engine: docker.DockerClient
) -> Iterator[GitHubRunner]:
    runner = GitHubRunner(tmp_path, env)
    (runner.workspace / "replies.yaml").write_text(REPLIES)
    yield runner
    store = runner.temp / "chowder-local/data/store.id"
    store_id = store.read_text() if store.exists() else None
    runner.run("chowder-local reset --yes")
    if store_id is not None:
        assert_nothing_left(engine, store_id)


def bundled(file: Path) -> dict[str, str]:
    """The texts of a bundle."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_github_a_job_talks_to_an_agent_and_its_failure_leaves_logs(
    checkout: Path, runner: GitHubRunner
) -> None:
    port = str(free_port())
    gave = runner.use(checkout, replies="replies.yaml", port=port, **{"warm-pool-size": "0"})
    assert gave["base-url"] == f"http://127.0.0.1:{port}/v1"
    assert gave["key"] == runner.env["CHOWDER_KEY"]
    assert gave["package"] == str(checkout)
    runner.run(f'npm install --no-audit --no-fund --no-save "{gave["npm"]}"')
    runner.run("node --input-type=module --eval 'import \"chowder-local/test\"'")
    # The engine has the image.
    assert "ci: " not in runner.log
    assert not list(runner.caches.iterdir())
    # The job's own Python is the one that it had.
    assert str(checkout) not in runner.env["PATH"]
    runner.run(TALK)
    assert "Hello, pipeline." in runner.log
    with pytest.raises(Failed):
        runner.run('echo "the key is $CHOWDER_KEY"; exit 1')
    assert "the key is ***" in runner.log
    (runner.workspace / "test_agents.py").write_text(JUDGED)
    with pytest.raises(Failed):
        runner.run(f"'{sys.executable}' -m pytest --chowder-report report")
    assert not list(runner.artifacts.iterdir())
    runner.use(checkout, report="report")
    report = runner.artifacts / "chowder-report-agents-0"
    assert "| ❌ | `test_agents.py::test_greeting` | 0 of 1 |" in runner.summary
    assert (report / "summary.md").read_text() == runner.summary
    (transcript,) = (report / "transcripts").iterdir()
    assert "## model calls of test_greeting" in transcript.read_text()
    runner.use(checkout, logs="true")
    texts = bundled(runner.artifacts / "chowder-local-agents-0" / "logs.zip")
    assert "POST /v1/instances 201" in texts["server.log"]
    assert gave["key"] not in "".join(texts.values()) + runner.log


@pytest.mark.parametrize("is_good", [True, False])
def test_gitlab_a_job_talks_to_an_agent_and_its_failure_leaves_logs(
    checkout: Path, env: dict[str, str], tmp_path: Path, engine: docker.DockerClient, is_good: bool
) -> None:
    project, artifacts = tmp_path / "project", tmp_path / "artifacts"
    project.mkdir()
    artifacts.mkdir()
    (project / "replies.yaml").write_text(REPLIES)
    keep = "cp .chowder-local/data/store.id .chowder-local/data/default.key ."
    mine = {
        "extends": ".chowder-local",
        "variables": {
            "LOCAL_AGENTS_DIR": str(checkout),
            "CHOWDER_REPLIES": "replies.yaml",
            "CHOWDER_WARM_POOL_SIZE": "0",
            "CHOWDER_PORT": str(free_port()),
        },
        "script": [keep, TALK if is_good else "echo no such luck; exit 1"],
    }
    ended = run_job(job(checkout / "scripts/gitlab-ci.yml", mine), project, env, artifacts)
    assert ended.status == ("success" if is_good else "failed"), ended.log
    assert ("Hello, pipeline." in ended.log) is is_good
    assert (project / "default.key").read_text() not in ended.log
    assert_nothing_left(engine, (project / "store.id").read_text())
    assert not (project / ".chowder-local/data").exists()
    assert ended.artifacts == ([] if is_good else [".chowder-local/logs.zip"])
    if not is_good:
        texts = bundled(artifacts / "logs.zip")
        assert (project / "default.key").read_text() not in "".join(texts.values())
    assert os.listdir(artifacts) == ([] if is_good else ["logs.zip"])
