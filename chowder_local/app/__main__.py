"""The server process that `up --detach` starts; its settings are in the environment.

With `--wait`, the environment is a line of JSON on standard input.
"""

from __future__ import annotations

import gc
import json
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

    env = dict(os.environ)
    if "--wait" in sys.argv:
        line = sys.stdin.buffer.readline()
        if not line:
            # `up` ended before there was an image.
            return FAILURE
        env = json.loads(line)
    try:
        return run(Settings.read(env), env)
    except (ChowderError, OSError) as failure:
        sys.stderr.write(f"Error: {failure}\n")
        return failure.exit_code if isinstance(failure, ChowderError) else FAILURE


if __name__ == "__main__":
    sys.exit(main())
