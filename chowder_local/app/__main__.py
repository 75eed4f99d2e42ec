"""The server process that `up --detach` starts; all its settings are in the environment."""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    """Serves, and returns the exit code. `up` quotes the error from the log."""
    # What is imported stays. To look through it again and again for garbage takes a quarter of the
    # imports' time; the server switches that on once it serves.
    gc.disable()
    from chowder_local.app.process import run
    from chowder_local.core.errors import FAILURE, ChowderError
    from chowder_local.core.settings import Settings

    if "--wait" in sys.argv and not sys.stdin.buffer.readline():
        # `up` ended before there was an image.
        return FAILURE
    env = dict(os.environ)
    try:
        return run(Settings.read(env), env)
    except (ChowderError, OSError) as failure:
        sys.stderr.write(f"Error: {failure}\n")
        return failure.exit_code if isinstance(failure, ChowderError) else FAILURE


if __name__ == "__main__":
    sys.exit(main())
