"""Servers as processes of their own, forked from one that has imported all they need (`python -m`).

Whoever starts it sends it an environment and where to write to, and gets a process's id; or sends
it such an id, and gets the exit code once there is one.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

PROGRAM = "tests.scripted.server_process"
ROOT = Path(__file__).parents[2]
LONGEST_BYTES = 65_536
POLL_S = 0.005


class ForkedServers:
    """Starts servers, and knows how they ended."""

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT, env={}, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._process.wait()

    def start(self, env: Mapping[str, str], output: int) -> int:
        """A new one's process id."""
        message = json.dumps({"env": dict(env)}).encode()
        socket.send_fds(self._socket, [message], [output])
        return self._answered()

    def exit_code(self, process_id: int, timeout_s: float) -> int:
        """How one has ended, as `subprocess` has it; after that, it is forgotten."""
        message = {"process_id": process_id, "timeout_s": timeout_s}
        self._socket.sendall(json.dumps(message).encode())
        return self._answered()

    def _answered(self) -> int:
        return int(json.loads(self._socket.recv(LONGEST_BYTES)))


def main(connection: socket.socket) -> None:
    """Forks a server for each environment that comes, until nobody is there any more."""
    # With it comes all that a server needs.
    __import__(PROGRAM)
    asyncio.run(_warm_up())
    while True:
        message, files, _, _ = socket.recv_fds(connection, LONGEST_BYTES, 1)
        if not message:
            return
        asked = json.loads(message)
        if (env := asked.get("env")) is None:
            answer: Any = _exit_code(**asked)
        elif (answer := os.fork()) == 0:
            connection.close()
            os.environ.clear()
            os.environ.update(env)
            os.dup2(files[0], sys.stdout.fileno())
            os.close(files[0])
            _become_server()
        else:
            os.close(files[0])
        connection.sendall(json.dumps(answer).encode())


async def _warm_up() -> None:
    """Opens a world, for whose template each server would otherwise need a part of a second."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_world(Path(folder)) as world:
            await world.created()


def _become_server() -> None:
    try:
        runpy.run_module(PROGRAM, run_name="__main__")
    except SystemExit as ended:
        for each in threading.enumerate():
            # As at the end of any program.
            if each is not threading.current_thread() and not each.daemon:
                each.join()
        # Not with what is to be done at the end of the process that was forked: it would sweep
        # the template away.
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _exit_code(process_id: int, timeout_s: float) -> int:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        found, status = os.waitpid(process_id, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        # Nothing portable waits for one child with a deadline.
        time.sleep(POLL_S)
    raise TimeoutError(f"the server {process_id} has not ended")


if __name__ == "__main__":
    with closing(socket.socket(fileno=int(sys.argv[1]))) as ours, suppress(ConnectionError):
        main(ours)
