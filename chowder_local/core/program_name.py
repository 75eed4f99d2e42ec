"""The command that calls this program, as it can be pasted into a shell."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from chowder_local.core.settings import Settings

PROGRAM = "chowder-local"


def program(data_dir: Path, path: str | None = None) -> str:
    """The command for that data directory; `path` is where commands are found, if not as usual.

    An environment need not be on the PATH, and the shell that this is pasted into may lack what
    this one has in its environment.
    """
    script = Path(sys.executable).with_name(PROGRAM)
    command = [PROGRAM]
    if shutil.which(PROGRAM, path=path) is None:
        command = [str(script)] if script.exists() else [sys.executable, "-m", "chowder_local"]
    if data_dir != Settings.read({}).data_dir:
        command += ["--data-dir", str(data_dir.absolute())]
    return shlex.join(command)
