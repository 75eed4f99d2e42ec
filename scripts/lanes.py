"""Runs the tests in several pytests side by side, with one measurement of what they cover."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from types import FrameType

MOST = 4
MEMORY_BYTES = 5 * 1024**3
"""What a lane may take: it has a server of its own with half a dozen agents."""
COVERAGE = (sys.executable, "-m", "coverage")
# No lane knows how much of the whole will be its own, and none may write another's cache.
OPTIONS = ("-p", "tests.lanes", "-p", "no:cacheprovider", "-o", "console_output_style=classic")


def main(arguments: list[str]) -> int:
    """The exit code: 0 if that is every lane's."""
    count = int(os.environ.get("TEST_LANES") or fitting())
    print(f"test: {count} pytests side by side", file=sys.stderr)
    lanes: list[subprocess.Popen[str]] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for lane in lanes:
            lane.send_signal(signal.SIGINT)

    # Before there are any, or they would inherit it if somebody has this process ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    with (
        tempfile.TemporaryDirectory(prefix="chowder-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(count) as threads,
    ):
        measured = ["run", "--parallel-mode", f"--data-file={folder}/.coverage", "-m", "pytest"]
        command = [*COVERAGE, *measured, *OPTIONS, f"--lane={folder}", *arguments]
        # A temporary folder each, which no other pytest of this machine's user clears away.
        lanes += [started([*command, f"--basetemp={folder}/{each}"]) for each in range(count)]
        codes = list(threads.map(told, range(1, count + 1), lanes))
        # Named one by one: elsewhere it would look for what is named as the whole is.
        parts = Path(folder).glob(".coverage.*")
        subprocess.run([*COVERAGE, "combine", "--quiet", *map(str, parts)], check=False)
    print(f"test: the pytests ended with {', '.join(map(str, codes))}", file=sys.stderr)
    return next((abs(code) for code in codes if code), 0)


def fitting() -> int:
    """One for each processor: an agent that boots takes a whole one."""
    cpus, memory_bytes = psutil.cpu_count() or 1, psutil.virtual_memory().available
    return max(1, min(cpus, memory_bytes // MEMORY_BYTES, MOST))


def started(command: list[str]) -> subprocess.Popen[str]:
    # In a session of its own: an interrupt has to come to it once, and not to what it runs.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def told(number: int, lane: subprocess.Popen[str]) -> int:
    """The exit code, once all that it said has been passed on."""
    for line in lane.stdout or ():
        sys.stdout.write(f"{number}| {line}")
        sys.stdout.flush()
    return lane.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
