"""One command line, from its arguments to its exit code."""

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest

from chowder_local import __version__
from chowder_local.cli import main as module
from chowder_local.cli.context import Context
from chowder_local.cli.main import COMMANDS, chowder_local, main, run
from chowder_local.cli.options import examples_of
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.diagnostics.checks import Finding, Level

Raising = Callable[[BaseException], None]


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Raising:
    def arrange(failure: BaseException) -> None:
        @click.command()
        def broken() -> NoReturn:
            raise failure

        monkeypatch.setattr(module.Commands, "get_command", lambda *_: broken)

    return arrange


def test_each_command_of_the_list_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert run([name, "--help"], {}) == 0, name
        assert f"Usage: chowder-local {name}" in capsys.readouterr().out


def commands_below(context: click.Context) -> Iterator[click.Context]:
    group = context.command
    if not isinstance(group, click.Group):
        yield context
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands_below(click.Context(command, info_name=name, parent=context))


def test_the_help_of_each_command_has_examples_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "key.txt",
        "telegram-token.txt",
        "support.chowder.tar",
        "prices.csv",
        "replies.yaml",
        "failing.json",
    ):
        (tmp_path / name).write_text("content")
    for name in ("agents", "docs", "tides"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    root = click.Context(chowder_local, info_name="chowder-local")
    for context in commands_below(root):
        lines = examples_of(context)
        assert lines, context.command_path
        for line in lines:
            *_, call = re.sub(r' ?[|<>].*$|\)"$', "", line).rpartition("chowder-local ")
            path, words = context.command_path.split()[1:], shlex.split(call)
            assert words[: len(path)] == path
            arguments = words[len(path) :]
            # It closes the files that are opened for arguments.
            with context.command.make_context(
                path[-1], arguments, parent=context.parent, obj=Context({})
            ):
                pass


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"], {}) == 0
    text = capsys.readouterr().out
    assert all(summary in text for _, summary in COMMANDS.values())


def test_the_help_of_a_group_says_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["instances", "--help"], {}) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert 'Write an agent to TARGET ("-" is standard output), for another machine.' in text


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], {}) == 0
    assert __version__ in capsys.readouterr().out


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upp"], {}) == 2
    assert "No such command 'upp'" in capsys.readouterr().err


def test_a_misspelt_setting_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["env"], {"CHOWDER_PROT": "1"}) == 2
    assert capsys.readouterr().err == "Error: Unknown settings: CHOWDER_PROT.\n"


def test_a_failure_is_one_sentence_and_an_exit_code(
    fail_with: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(EngineUnavailable("The engine is down."))
    assert run(["up"], {}) == 6
    assert capsys.readouterr().err == "Error: The engine is down.\n"


def test_an_error_of_the_operating_system_is_one_sentence(
    fail_with: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(OSError(28, "No space left on device", "/data"))
    assert run(["up"], {}) == 1
    assert "No space left on device: '/data'" in capsys.readouterr().err


def test_an_interrupt_ends_quietly_with_its_own_code(
    fail_with: Raising, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(KeyboardInterrupt())
    assert run(["up"], {}) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_question_answered_with_no_is_a_failure(fail_with: Raising) -> None:
    fail_with(click.Abort())
    assert run(["up"], {}) == 1


def test_the_data_directory_option_may_be_before_and_after_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "default.key").write_text("chd_org_x")
    for arguments in (["--data-dir", str(tmp_path), "env"], ["env", "--data-dir", str(tmp_path)]):
        assert run(arguments, {"CHOWDER_DATA_DIR": "/nowhere"}) == 0
        assert "chd_org_x" in capsys.readouterr().out


def test_the_console_script_reads_arguments_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "default.key").write_text("chd_org_x")
    monkeypatch.setenv("CHOWDER_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["chowder-local", "env"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert "chd_org_x" in capsys.readouterr().out


def test_a_closed_pipe_causes_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "chowder_local", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_pipe_closed_before_the_last_flush_causes_no_traceback(
    fail_with: Raising, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        def flush(self) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            return warm_sandbox

        def write(self, text: str) -> None:
            pass

    with Path("/dev/null").open("wb") as file:
        warm_sandbox = file.fileno()
        monkeypatch.setattr(sys, "stdout", Closed())
        assert run(["env", "--help"], {}) == 141


def test_quick_commands_load_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "default.key").write_text("k")
    heavy = "docker|sqlalchemy|sqlmodel|starlette|uvicorn|alembic|cryptography"
    code = (
        "import sys; from chowder_local.cli.main import run\n"
        "for arguments in (['--help'], ['env'], ['status'], ['down']):\n"
        f"    run(arguments, {{'CHOWDER_DATA_DIR': {str(tmp_path)!r}}})\n"
        f"    loaded = {{*{heavy.split('|')!r}}} & sys.modules.keys()\n"
        "    if loaded: sys.exit(f'{arguments} loads {loaded}')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_call_of_the_server_loads_no_settings(tmp_path: Path) -> None:
    (tmp_path / "default.key").write_text("k")
    (tmp_path / "server.json").write_text(
        '{"pid": 1, "base_url": "http://127.0.0.1:1", "version": "1"}'
    )
    code = (
        "import sys; from chowder_local.cli.main import run\n"
        f"run(['instances', 'ls'], {{'CHOWDER_DATA_DIR': {str(tmp_path)!r}}})\n"
        "assert 'httpx' in sys.modules and 'pydantic' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_closed_pipe_that_click_notices_has_the_same_exit_code(fail_with: Raising) -> None:
    fail_with(SystemExit(1))
    assert run(["up"], {}) == 141


def test_completion_knows_each_command_and_no_other() -> None:
    with click.Context(chowder_local) as context:
        assert chowder_local.list_commands(context) == list(COMMANDS)
        assert chowder_local.get_command(context, "nope") is None


@pytest.mark.parametrize(("env", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_disables_colours(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], is_coloured: bool
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(
        "chowder_local.cli.doctor.examine",
        lambda *_: [Finding("engine", Level.OK, "is there")],
    )
    assert run(["doctor"], env) == 0
    assert ("\x1b[" in terminal.getvalue()) is is_coloured
