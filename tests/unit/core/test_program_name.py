"""How a person calls the program."""

from __future__ import annotations

import shlex
from pathlib import Path

from chowder_local.core.program_name import program
from chowder_local.core.settings import Settings

USUAL = Settings.read({}).data_dir


def test_the_usual_data_directory_is_not_named(tmp_path: Path) -> None:
    assert "--data-dir" not in program(USUAL)
    assert program(tmp_path / "a b").endswith(f"--data-dir '{tmp_path}/a b'")


def test_one_that_is_not_on_the_path_is_called_by_its_place(tmp_path: Path) -> None:
    called = shlex.split(program(USUAL, str(tmp_path)))
    assert Path(called[0]).is_absolute()
    command = tmp_path / "chowder-local"
    command.touch(mode=0o755)
    assert program(USUAL, str(tmp_path)) == "chowder-local"
