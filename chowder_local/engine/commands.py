"""Running a command of the host line by line, as the image build needs it."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_KEPT_LINES = 200


def run_command(
    command: Sequence[str],
    env: Mapping[str, str],
    hear: Callable[[str], None],
    *,
    answer_within_s: float | None = None,
) -> tuple[int, list[str]]:
    """Runs a command to its end; its exit code and last lines. It is killed if it stays mute."""
    try:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise ImageBuildFailed(
            f"Building the image needs the {command[0]!r} command, which is not on the PATH. "
            "It comes with Docker Desktop and Docker Engine (Debian: docker-cli, docker-buildx)."
        ) from None
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    mute = threading.Timer(answer_within_s or 0, process.kill)
    if answer_within_s is not None:
        mute.start()
    with process:
        try:
            for line in process.stdout or ():
                mute.cancel()
                kept.append(line.rstrip("\n"))
                hear(kept[-1])
        except BaseException:
            # Ctrl-C ends the build too, instead of leaving it to go on unseen.
            process.terminate()
            raise
        finally:
            mute.cancel()
    return process.returncode, list(kept)
