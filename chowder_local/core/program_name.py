"""The shell command that runs this program."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from chowder_local.core.settings import Settings

PROGRAM = "chowder-local"


def program(data_dir: Path, path: str | None = None) -> str:
    """The command for a data directory; `path` is searched in place of the PATH.

    The virtual environment may not be on the PATH, and the shell into which a user pastes the
    command may lack variables of this process.
    """
    script = Path(sys.executable).with_name(PROGRAM)
    command = [PROGRAM]
    if shutil.which(PROGRAM, path=path) is None:
        command = [str(script)] if script.exists() else [sys.executable, "-m", "chowder_local"]
    if data_dir != Settings.read({}).data_dir:
        command += ["--data-dir", str(data_dir.absolute())]
    return shlex.join(command)
