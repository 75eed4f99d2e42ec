"""Runs of pytest side by side: each takes the next modules that no other one has taken."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOGETHER = {"conformance"}
"""Folders that are taken as a whole: what a run makes for one is for all its modules."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lane", type=Path, help="A folder that all runs of a suite have in common.")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Instead of pytest's own, which knows from the start what it will run."""
    folder: Path | None = session.config.getoption("--lane")
    if folder is None or session.testsfailed or session.config.option.collectonly:
        return None
    with (folder / "lock").open("w") as lock:
        mine = _taken(session.items, folder)
        item = next(mine, None)
        while item is not None:
            # A file's lock changes its kind by being let go of first, so nobody waits in a circle.
            fcntl.flock(lock, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
            # What was set up is kept for the next one, so that has to be known by now.
            following = next(mine, None)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            item = following
    return True


def _taken(items: Sequence[pytest.Item], folder: Path) -> Iterator[pytest.Item]:
    """The tests that are this run's; nothing is taken before its turn has come."""
    shares: dict[Path, list[pytest.Item]] = {}
    for item in items:
        is_together = item.path.parent.name in TOGETHER
        shares.setdefault(item.path.parent if is_together else item.path, []).append(item)
    for share in sorted(shares, key=lambda share: _turn(shares[share][0])):
        name = quote(str(share.relative_to(items[0].config.rootpath)), safe="")
        try:
            (folder / name).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield from shares[share]


def _turn(item: pytest.Item) -> int:
    """What takes long comes first, so that all runs end at about the same time."""
    if _is_alone(item):
        return 2
    is_long = item.get_closest_marker("docker") or item.get_closest_marker("slow")
    return 0 if is_long else 1


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None
