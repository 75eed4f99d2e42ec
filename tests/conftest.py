"""What tests of all folders use, and how workers of pytest-xdist share the tests: their number,
what stays together, the order.
"""

from __future__ import annotations

import asyncio
import inspect
from fnmatch import fnmatch
from functools import wraps
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import accounting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from xdist.remote import Producer

    from tests.scripted.world import World

MOST_WORKERS = 4
WORKER_MEMORY_BYTES = 5 * 1024**3
"""What one may take: it has a server of its own with half a dozen agents."""
COROUTINE_TIMEOUT_S = 300.0
"""Less than what pytest-timeout gives a test."""
TOGETHER = ("tests/e2e/agents/test_[a-c]", "tests/e2e/agents/", "chowder_local/conformance/")
"""Modules that share a server and its agents, so that one worker has them all: the first that fits.

Those of real agents are two, of about the same length: together they take longer than all others.
"""

SLOW = ("tests/e2e/", "tests/docker/image/", "tests/docker/cli/")
"""Folders of what boots agents, runs browsers or builds images: slow, unless it is marked quick."""


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]  # no types
    """A test file stays on one worker, so that what a module sets up is set up once."""

    def _split_scope(self, nodeid: str) -> str:
        return _together(nodeid) or nodeid.partition("::")[0]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(accounting)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    # By the number of tests, which says nothing of their length.
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One for the shared agents' tests, which often wait, and one for each processor."""
    cpus, memory_bytes = psutil.cpu_count() or 1, psutil.virtual_memory().available
    return max(1, min(cpus + 1, memory_bytes // WORKER_MEMORY_BYTES, MOST_WORKERS))


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.nodeid.startswith(SLOW) and not item.get_closest_marker("quick"):
        item.add_marker("slow")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that all workers end at about the same time."""
    items.sort(key=_how_early)


def _how_early(item: pytest.Item) -> tuple[bool, bool, bool]:
    return (
        _together(item.nodeid) is None,
        not item.get_closest_marker("long"),
        not item.get_closest_marker("docker"),
    )


def _together(nodeid: str) -> str | None:
    return next((each for each in TOGETHER if fnmatch(nodeid, f"{each}*")), None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Ends a coroutine that waits in vain from within.

    pytest-timeout's signal would leave it waiting, and its fixtures would wait for it at their end.
    """
    body = pyfuncitem.obj
    if inspect.iscoroutinefunction(body):

        @wraps(body)
        async def bounded(**fixtures: Any) -> None:
            async with asyncio.timeout(COROUTINE_TIMEOUT_S):
                await body(**fixtures)

        pyfuncitem.obj = bounded


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The services of a server on a scripted engine, of a test's own."""
    # Most tests of real agents need none of what it imports.
    from tests.scripted.world import open_world

    async with open_world(tmp_path) as world:
        yield world
