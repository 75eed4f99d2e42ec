"""How a person calls this program, such that it can be pasted."""

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
    words = [PROGRAM]
    if shutil.which(PROGRAM, path=path) is None:
        words = [str(script)] if script.exists() else [sys.executable, "-m", "chowder_local"]
    if data_dir != Settings.read({}).data_dir:
        words += ["--data-dir", str(data_dir.absolute())]
    return shlex.join(words)
