"""The JavaScript package: what is packed, its types, and its helpers with `node --test`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chowder_local import __version__
from tests.e2e.made_once import made_once
from tests.e2e.node import RUN_TIMEOUT_S, node_modules, packages_of, tool
from tests.e2e.quick_agents import open_quick_server
from tests.e2e.serving import bare_environment

if TYPE_CHECKING:
    import docker

    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

PACKAGE = Path(__file__).parents[2] / "js"
COMMAND = Path(sys.executable).with_name("chowder-local")


def run(folder: Path, *words: str, **env: str) -> str:
    done = ended(folder, *words, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=bare_environment() | env, capture_output=True, text=True,
        check=False, timeout=RUN_TIMEOUT_S,
    )  # fmt: skip


def helped(folder: Path, server: ServerProcess, name: str, **env: str) -> str:
    """What `node --test` says of a file of the package's own tests."""
    ignored = shutil.ignore_patterns("node_modules", "recordings")
    shutil.copytree(PACKAGE, folder, ignore=ignored, dirs_exist_ok=True)
    shutil.copy(PACKAGE.parent / "examples" / "pytest" / "seed.yaml", folder / "test")
    named = {
        "CHOWDER_BASE_URL": server.base_url, "CHOWDER_KEY": server.key,
        "CHOWDER_COMMAND": str(COMMAND),
    }  # fmt: skip
    return ended(folder, tool("node"), "--test", f"test/{name}", **named, **env).stdout


@pytest.mark.docker
def test_agents_answer_by_replies_and_report_a_failure(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    said = helped(tmp_path / "js", quick_server, "agents.test.js")
    assert "# pass 3\n" in said, said


@pytest.mark.docker
def test_agents_are_brought_into_a_state_which_ends_with_the_test(
    quick_server: ServerProcess, tmp_path: Path
) -> None:
    said = helped(tmp_path / "js", quick_server, "states.test.js")
    assert "# pass 6\n" in said, said


@pytest.mark.docker
@pytest.mark.nightly
def test_a_recording_is_made_of_real_models_and_then_answers(
    engine: docker.DockerClient, stand_in: StandIn, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = stand_in.settings | {"CHOWDER_OFFLINE": "false"}
    with open_quick_server(tmp_path, engine, request.config, settings) as server:
        record_and_replay(server, tmp_path / "js")


def record_and_replay(server: ServerProcess, folder: Path) -> None:
    def run_with(said: str, **env: str) -> str:
        return helped(folder, server, "recording.test.js", SAID=said, **env)

    again = {"CHOWDER_TEST_RECORD": "true"}
    assert "Make one with CHOWDER_TEST_RECORD=true" in run_with("Good morning")
    assert "no real model of anthropic has answered" in run_with("Good morning", **again)
    made = run_with("Good morning", **again, ANTHROPIC_API_KEY="sk-ant-planted")
    assert "# pass 1\n" in made, made
    (file,) = (folder / "recordings" / "greeting").iterdir()
    assert file.name == "0001-anthropic-claude-sonnet-4-20250514.json"
    replayed = run_with("Good morning")
    assert "# pass 1\n" in replayed, replayed
    assert "recorded [said: Good morning]" in run_with("Good night")


def test_what_agents_write_is_read_in_a_time_that_grows_as_it_does() -> None:
    # Without `--test`, there is no other process that would go on after the time limit.
    run(PACKAGE, tool("node"), "test/foreign.test.js")


def test_the_types_refuse_what_is_wrong() -> None:
    sources = [PACKAGE / "test" / "types.mts", *sorted(PACKAGE.glob("src/*.d.ts"))]

    def make(folder: Path) -> None:
        shutil.copytree(
            PACKAGE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
        )
        (folder / "node_modules").symlink_to(node_modules())
        run(folder, "node_modules/.bin/tsc", "-p", ".")

    made_once("javascript", make, *(file.read_bytes() for file in sources))


def test_it_is_packed_with_npm_alone_and_brings_its_types(tmp_path: Path) -> None:
    package = tmp_path / "js"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("node_modules"))
    archive = run(package, tool("npm"), "pack", "--silent", "--pack-destination", str(tmp_path))
    with tarfile.open(tmp_path / archive.strip()) as packed:
        assert {"package/src/openapi.d.ts", "package/src/test.js"} <= set(packed.getnames())


def test_the_package_has_the_version_of_the_server_and_needs_nothing() -> None:
    described = json.loads((PACKAGE / "package.json").read_text())
    assert described["version"] == __version__
    assert "dependencies" not in described
    exported = [file for each in described["exports"].values() for file in each.values()]
    assert all((PACKAGE / file).is_file() for file in exported)


@pytest.mark.nightly
@pytest.mark.docker
def test_a_body_runs_as_trials_on_forks(quick_server: ServerProcess, tmp_path: Path) -> None:
    said = helped(tmp_path / "js", quick_server, "trials.test.js")
    assert "# pass 4\n" in said, said


TRIALS = """
import { agents } from "chowder-local/test";

const chowder = agents({ before: beforeAll, after: afterAll });
const agent = () => chowder.common();

test("says so", chowder.trials({ agent, trials: 3, seed: 7 }, async ({ agent, number }) => {
  expect(await agent.say(`I am ${number}`)).toBe(`Turn 1. First: I am ${number}`);
}), 300_000);

test("does not say so", chowder.trials({ agent, trials: 3, seed: 7 }, async ({ agent }) => {
  expect(await agent.say("Hi")).toBe("Nothing like that");
}), 300_000);

const options = { agent, trials: 3, isolation: "session" };
test("in sessions", chowder.trials(options, async ({ agent, session }) => {
  expect(await agent.say("Hi", { session })).toBe("Turn 1. First: Hi");
}), 300_000);
"""


@pytest.mark.docker
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("package", "options"),
    [("vitest@4.1.12", ["run", "--globals"]), ("jest@30.5.2", [])],
    ids=["vitest", "jest"],
)
def test_trials_run_under_other_runners_and_say_why_they_fail(
    quick_server: ServerProcess, tmp_path: Path, package: str, options: list[str]
) -> None:
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "trials.test.mjs").write_text(TRIALS)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/chowder-local").symlink_to(PACKAGE)
    program = packages_of(package) / ".bin" / package.partition("@")[0]
    done = ended(
        tmp_path, str(program), *options, CHOWDER_BASE_URL=quick_server.base_url,
        CHOWDER_KEY=quick_server.key, NODE_OPTIONS="--experimental-vm-modules", NO_COLOR="1",
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "1 failed" in said, said
    assert "2 passed" in said, said
    for words in (
        "passed: 3 of 3 trials passed (1; interval",
        "failed: 0 of 1 trials passed (0; interval",
        "Seed 7.",
        "Nothing like that",
        "--- model calls of trial 1 of common ---",
    ):
        assert words in said, said
