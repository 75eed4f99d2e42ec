"""The command that `exec` runs: its signals and its exit code."""

import os
import signal
import subprocess
import sys

import click
import pytest

from chowder_local.cli.exec import Signals
from chowder_local.cli.main import run

PROGRAM = "import os, sys; from chowder_local.cli.exec import Signals\n"
FORWARDING = "with Signals() as signals: sys.exit(signals.run(sys.argv[1:], os.environ))"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("trap 'exit 5' TERM; echo ready; while :; do read -r _; done", 5),
        ("echo ready; exec sleep 600", 128 + signal.SIGTERM),
    ],
)
def test_a_signal_reaches_the_command_whose_exit_code_is_passed_on(script: str, code: int) -> None:
    command = [sys.executable, "-c", PROGRAM + FORWARDING, "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == code


def test_a_signal_without_a_command_ends_the_program_in_order() -> None:
    with pytest.raises(click.exceptions.Exit) as ended, Signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.exit_code == 128 + signal.SIGTERM


def test_a_signal_after_the_command_does_not_interrupt_what_is_removed_then() -> None:
    with Signals() as signals:
        assert signals.run(["true"], os.environ) == 0
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_command_that_does_not_exist_is_refused_before_a_server_is_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["exec", "--", "no-such-command"], {"PATH": "/usr/bin"}) == 2
    assert "There is no command 'no-such-command'" in capsys.readouterr().err
