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
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from chowder_local.cli.main import run
from chowder_local.engine.connection import find_engine, open_client

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

    with closing(open_client(find_engine(os.environ))) as engine:
        ours = f"chowder-{(Path(env['CHOWDER_DATA_DIR']) / 'store.id').read_text()}"
        assert len(engine.networks.list(names=[ours])) == 2
        down = call("down")
        assert engine.networks.list(names=[ours]) == []
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
