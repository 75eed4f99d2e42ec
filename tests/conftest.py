"""How workers of pytest-xdist share the tests: their number, what stays together, the order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

MOST_WORKERS = 4
WORKER_MEMORY_BYTES = 5 * 1024**3
"""What one may take: it has a server of its own with half a dozen agents."""
TOGETHER = "tests/conformance"
"""A folder whose modules share what they make at the service."""


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]  # no types
    """A test file stays on one worker, so that what a module sets up is set up once."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER if nodeid.startswith(f"{TOGETHER}/") else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    # By the number of tests, which says nothing of their length.
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One for each processor: an agent that boots takes a whole one."""
    cpus, memory_bytes = psutil.cpu_count() or 1, psutil.virtual_memory().available
    return max(1, min(cpus, memory_bytes // WORKER_MEMORY_BYTES, MOST_WORKERS))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that all workers end at about the same time."""
    items.sort(key=lambda item: not item.get_closest_marker("docker"))
