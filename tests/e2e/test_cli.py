"""A day at the command line, as a person and a script have it; only the agent is a quick one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.serving import bare_environment, free_port
from tests.e2e.whole_life import assert_nothing_left

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = pytest.mark.docker

PROGRAM = Path(sys.executable).with_name("chowder-local")
TIMEOUT_S = 180


class CommandLine:
    """`chowder-local` with a data directory and a port of its own, chosen by the environment."""

    def __init__(self, data_dir: Path, image: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.env = bare_environment() | {
            "CHOWDER_DATA_DIR": str(data_dir),
            "CHOWDER_PORT": str(self.port),
            "CHOWDER_IMAGE": image,
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
        """The exit code, and what was said on standard output and standard error."""
        done = subprocess.run(
            [str(PROGRAM), *arguments],
            env=self.env | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return done.returncode, done.stdout, done.stderr

    def ok(self, *arguments: str) -> str:
        """What a command says that is expected to succeed."""
        code, out, err = self.run(*arguments)
        assert code == 0, f"{arguments} ended with {code}:\n{out}{err}"
        assert "Traceback" not in err
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))


@pytest.fixture
def cli(tmp_path: Path, engine: docker.DockerClient, image: str) -> Iterator[CommandLine]:
    cli = CommandLine(tmp_path / "data", image)
    yield cli
    store_file = cli.data_dir / "store.id"
    store_id = store_file.read_text() if store_file.exists() else None
    cli.ok("reset", "--yes")
    if store_id is not None:
        assert_nothing_left(engine, store_id)


# Some thirty commands, each a process of its own.
def test_a_day_at_the_command_line(cli: CommandLine, engine: docker.DockerClient) -> None:
    code, _, err = cli.run("status")
    assert code == 1
    assert "up --detach" in err

    said = cli.ok("up", "--detach")
    assert f"http://127.0.0.1:{cli.port}/v1" in said
    assert f"http://127.0.0.1:{cli.port}/docs" in said
    assert "runs already" in cli.ok("up", "--detach")
    health = cli.json("status")
    assert health["base_url"] == f"http://127.0.0.1:{cli.port}/v1"
    assert health["data_dir"] == str(cli.data_dir)
    assert health["status"] == "ok"
    doctor = cli.json("doctor")
    assert doctor["ok"], doctor

    # What `env` prints is for eval, and then the API is at hand.
    script = f"""
        eval "$('{PROGRAM}' env)"
        curl -sSf "$CHOWDER_BASE_URL/organization" -H "Authorization: Bearer $CHOWDER_KEY"
    """
    shell = subprocess.run(
        ["/bin/bash", "-euc", script], env=cli.env, capture_output=True, text=True, check=True
    )
    assert json.loads(shell.stdout)["subscription_tier"] == "whale"

    instance_id = cli.ok("instances", "create", "my-agent").strip()
    (row,) = cli.json("instances", "ls")
    assert (row["id"], row["status"]) == (instance_id, "running")
    assert "my-agent" in cli.ok("instances", "ls")
    assert "Remember the milk." in cli.ok("chat", "my-agent", "Remember", "the", "milk.")
    assert "Turn 1. First: Hello" in cli.ok("chat", "my-agent", "--session", "else", "Hello")
    assert "Remember the milk." in cli.ok("logs", "my-agent")

    # A command gets the server that runs, and an agent for its time only.
    assert cli.run("exec", "--instance", "eve", "--", "sh", "-c", "exit 3")[0] == 3
    assert len(cli.json("instances", "ls")) == 1

    assert cli.json("instances", "stop", "my-agent")["status"] == "stopped"
    code, _, err = cli.run("chat", "my-agent", "Hello?")
    assert code == 1
    assert "stopped" in err
    assert "Traceback" not in err
    assert cli.json("instances", "start", instance_id[:8])["status"] == "running"

    sandbox = engine.containers.get(row["sandbox_id"])
    cli.ok("down")
    assert cli.run("status")[0] == 1
    sandbox.reload()
    assert sandbox.status == "running"
    assert "No server runs" in cli.ok("down")
    cli.ok("up", "--detach")
    (again,) = cli.json("instances", "ls")
    assert (again["status"], again["sandbox_id"]) == ("running", row["sandbox_id"])
    assert "Remember the milk." in cli.ok("chat", "my-agent", "What was it?")

    # Another data directory cannot have the port; one sentence says so.
    code, _, err = cli.run("up", env={"CHOWDER_DATA_DIR": f"{cli.data_dir}-other"})
    assert code == 3
    assert len([line for line in err.splitlines() if line.startswith("Error: ")]) == 1
    assert "Traceback" not in err

    cli.ok("instances", "rm", "my-agent", "--yes")
    assert cli.json("instances", "ls") == []
    cli.ok("instances", "create", "left-over", "--no-wait")
    store_id = (cli.data_dir / "store.id").read_text()
    cli.ok("reset", "--yes")
    assert not cli.data_dir.exists()
    assert_nothing_left(engine, store_id)


def test_a_command_gets_a_server_and_an_agent_of_which_nothing_is_left(
    cli: CommandLine, engine: docker.DockerClient, tmp_path: Path
) -> None:
    script = """if True:
        import json, os, pathlib, sys, urllib.request
        def call(url, **body):
            headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode() if body else None
            return json.load(urllib.request.urlopen(urllib.request.Request(url, data, headers)))
        root_url = os.environ["CHOWDER_BASE_URL"].removesuffix("/v1")
        data_dir = call(root_url + "/local/health")["data_dir"]
        answer = call(os.environ["OPENAI_BASE_URL"] + "/responses", model="gpt-4o", input="Hi.")
        store_id = pathlib.Path(data_dir, "store.id").read_text()
        print(json.dumps([data_dir, store_id, answer["status"], os.environ["CHOWDER_INSTANCE_ID"]]))
        sys.exit(7)
    """
    (temporary := tmp_path / "temporary").mkdir()
    command = ["exec", "--instance", "ada", "--", sys.executable, "-c", script]
    code, out, err = cli.run(*command, env={"TMPDIR": str(temporary)})
    assert code == 7, err
    data_dir, store_id, status, _ = json.loads(out)
    assert status == "completed"
    assert data_dir.startswith(str(temporary))
    assert list(temporary.iterdir()) == []
    assert not cli.data_dir.exists()
    assert_nothing_left(engine, store_id)


def test_an_engine_that_is_down_is_one_sentence(cli: CommandLine) -> None:
    code, _, err = cli.run("up", env={"DOCKER_HOST": "unix:///nonexistent.sock"})
    assert code == 6
    assert err.count("Error: ") == 1
    assert "Traceback" not in err
