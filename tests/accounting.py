"""A pytest plugin: says at the end of a run what each worker took, and the containers meanwhile."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

ACCOUNT = "account"
"""The member of a worker's output."""
CONTAINERS_NS = Path("/sys/fs/cgroup/cpuacct/docker/cpuacct.usage")
CONTAINERS = Path("/sys/fs/cgroup/docker/cpu.stat")
"""Of control groups v2; where systemd has the containers, nothing counts those that are gone."""
OPEN = Path("/proc/self/fd")
_BEFORE_S = pytest.StashKey[float | None]()
_ACCOUNTS = pytest.StashKey[dict[str, str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_BEFORE_S] = containers_s()
    session.config.stash[_ACCOUNTS] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[ACCOUNT] = account()
    else:
        session.config.stash[_ACCOUNTS]["this process"] = account()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController, error: object) -> None:
    # One that was killed has none.
    output = getattr(node, "workeroutput", {})
    if ACCOUNT in output:
        node.config.stash[_ACCOUNTS][node.gateway.id] = output[ACCOUNT]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    terminalreporter.section("processor time, memory, open descriptors")
    for worker, took in sorted(config.stash[_ACCOUNTS].items()):
        terminalreporter.line(f"{worker}: {took}")
    before_s, after_s = config.stash[_BEFORE_S], containers_s()
    if before_s is not None and after_s is not None:
        terminalreporter.line(f"all containers of the engine: {after_s - before_s:.0f} s")


def account() -> str:
    """What this process has taken up to now."""
    own, children = (
        resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return (
        f"{own.ru_utime + own.ru_stime:.0f} s, {children.ru_utime + children.ru_stime:.0f} s of "
        f"programs, at most {own.ru_maxrss * unit / 1e6:.0f} MB, {open_descriptors()} open"
    )


def open_descriptors() -> int | None:
    """How many this process has open; None where the system does not list them."""
    return len(list(OPEN.iterdir())) if OPEN.exists() else None


def containers_s() -> float | None:
    """The processor time of all containers up to now; None where it cannot be read."""
    with suppress(FileNotFoundError):
        return int(CONTAINERS_NS.read_text()) / 1e9
    with suppress(FileNotFoundError):
        fields = dict(line.split() for line in CONTAINERS.read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6
    return None
