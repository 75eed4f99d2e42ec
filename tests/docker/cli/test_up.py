"""`up` and later commands, with the real server on a real engine and without agents."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from chowder_local.cli.main import run

pytestmark = pytest.mark.docker


class Outcome(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Call = Callable[..., Outcome]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CHOWDER_", "ANTHROPIC_"))}
    own = {"CHOWDER_DATA_DIR": str(tmp_path / "data"), "CHOWDER_PORT": str(port)}
    return {**kept, **own, "CHOWDER_WARM_POOL_SIZE": "0"}


@pytest.fixture
def call(
    env: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Call]:
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def call(*words: str, **more: str) -> Outcome:
        return Outcome(run(words, {**env, **more}), *capsys.readouterr())

    yield call
    left = call("reset", "--yes")
    assert left.returncode == 0, left.stderr


def test_a_detached_server_is_ready_and_what_it_printed_can_be_pasted(
    call: Call, env: dict[str, str]
) -> None:
    up = call("up", "--detach", ANTHROPIC_API_KEY="sk-ant-test")
    assert up.returncode == 0, up.stderr
    assert "anthropic: key from the environment; openai, gemini: built-in offline" in up.stdout
    assert f"Guide     http://127.0.0.1:{env['CHOWDER_PORT']}/guide/" in up.stdout

    line = next(line for line in up.stdout.splitlines() if "eval" in line)
    script = (
        f'{line}\ncurl -sSf "$CHOWDER_BASE_URL/instances" -H "Authorization: Bearer $CHOWDER_KEY"'
    )
    bare = {k: v for k, v in env.items() if not k.startswith("CHOWDER_")}
    pasted = subprocess.run(
        ["sh", "-c", script], env=bare, capture_output=True, text=True, check=False
    )
    assert (pasted.stdout, pasted.returncode) == ("[]", 0), pasted.stderr

    status = json.loads(call("status", "--json").stdout)
    assert status["base_url"] == f"http://127.0.0.1:{env['CHOWDER_PORT']}/v1"
    assert status["data_dir"] == env["CHOWDER_DATA_DIR"]
    assert call("doctor").returncode == 0

    again = call("up", "--detach")
    assert (again.returncode, again.stderr) == (0, "")
    assert f"runs already (process {status['pid']})" in again.stdout
    other = call("up", "--detach", "--port", "1", CHOWDER_EGRESS="off")
    assert other.returncode == 1
    assert f"CHOWDER_EGRESS is on, not off; CHOWDER_PORT is {env['CHOWDER_PORT']}, not 1." in (
        other.stderr
    )

    down = call("down")
    assert f"stopped (process {status['pid']})" in down.stdout
    assert call("status").returncode == 1


def test_in_the_foreground_it_serves_until_it_is_interrupted(
    call: Call, env: dict[str, str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "chowder_local", "up", "--offline"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        assert "  Models    anthropic, openai, gemini: built-in offline model\n" in lines
        with urllib.request.urlopen(
            f"http://127.0.0.1:{env['CHOWDER_PORT']}/local/ready"
        ) as answer:
            assert json.load(answer) == {"ready": True}
        second = call("up", "--detach", "--offline")
        assert "runs already" in second.stdout
        server.send_signal(signal.SIGINT)
    assert server.returncode == 0


def test_a_taken_port_is_an_error_with_its_exit_code(call: Call, env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(env["CHOWDER_PORT"]))):
        up = call("up", "--detach")
    assert up.returncode == 3
    assert up.stderr.splitlines()[-1].startswith(f"Error: Port {env['CHOWDER_PORT']} on")
    assert "Traceback" not in up.stderr


def test_an_image_that_is_not_there_and_not_ours_to_build_is_refused(call: Call) -> None:
    up = call("up", "--image", "chowder-local/not-there:1")
    assert up.returncode == 7
    assert "chowder-local/not-there:1" in up.stderr


def test_reset_asks_and_removes_everything(call: Call, env: dict[str, str]) -> None:
    folder = Path(env["CHOWDER_DATA_DIR"])
    assert call("up", "--detach").returncode == 0
    (folder / "of-mine.txt").touch()
    assert call("reset").returncode == 1
    assert call("status").returncode == 0

    reset = call("reset", "--yes", "--json")
    assert reset.returncode == 0, reset.stderr
    report = json.loads(reset.stdout)
    opened, closed = sorted(report["networks"])
    assert closed == f"{opened}-closed"
    assert str(folder / "chowder.db") in report["files"]
    # Files of other programs stay.
    assert [path.name for path in folder.iterdir()] == ["of-mine.txt"]
    assert call("status").returncode == 1
    assert "There is nothing" in call("reset").stdout
    assert json.loads(call("reset", "--json").stdout)["files"] == []


def test_images_are_listed_with_the_one_that_is_used(call: Call) -> None:
    assert "*" in call("image", "ls").stdout
    listed = json.loads(call("image", "ls", "--json").stdout)
    sandboxes = [each for each in listed if "/sandbox:" in each["tag"]]
    assert [each["used"] for each in sandboxes].count(True) == 1


def test_an_image_that_is_not_there_cannot_be_removed(call: Call) -> None:
    gone = call("image", "rm", "chowder-local/not-there:1")
    assert (gone.returncode, "not-there" in gone.stderr) == (1, True)
