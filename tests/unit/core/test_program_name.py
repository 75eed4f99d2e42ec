"""The shell command that runs the program."""

from __future__ import annotations

import shlex
from pathlib import Path

from chowder_local.core.settings import Settings
from chowder_local.core.wording import program

DEFAULT = Settings.read({}).data_dir


def test_the_default_data_directory_is_not_named(tmp_path: Path) -> None:
    assert "--data-dir" not in program(DEFAULT)
    assert program(tmp_path / "a b").endswith(f"--data-dir '{tmp_path}/a b'")


def test_a_program_that_is_not_on_the_path_is_called_by_its_path(tmp_path: Path) -> None:
    command_line = shlex.split(program(DEFAULT, str(tmp_path)))
    assert Path(command_line[0]).is_absolute()
    command = tmp_path / "chowder-local"
    command.touch(mode=0o755)
    assert program(DEFAULT, str(tmp_path)) == "chowder-local"
