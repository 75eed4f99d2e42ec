"""Fixtures that bring the agents of a test into a state: forks, snapshots, seeds and faults."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from chowder_local.testing.live import LiveInstance, LiveJob, LiveOrganization

__tracebackhide__ = True

# Every run of pytest imports this module if the package is installed, so slow imports are inside
# functions.


@pytest.fixture
def chowder_fork(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[LiveInstance], LiveInstance]]:
    """A function that forks an instance for this test alone, and deletes the fork afterwards."""
    forks: list[LiveInstance] = []

    def fork(instance: LiveInstance) -> LiveInstance:
        forks.append(instance.fork(request.node.name[:128]))
        return forks[-1]

    yield fork
    for each in forks:
        delete(each)


@pytest.fixture
def chowder_snapshot(
    chowder_organization: LiveOrganization,
) -> Iterator[Callable[[LiveInstance], Mapping[str, Any]]]:
    """A function that takes a snapshot of an instance, which is removed after the test."""
    taken: list[str] = []

    def take(instance: LiveInstance) -> Mapping[str, Any]:
        snapshot = instance.snapshot()
        taken.append(snapshot["id"])
        return snapshot

    yield take
    for each in taken:
        chowder_organization.client.delete_snapshot(each)


@pytest.fixture
def chowder_job() -> Iterator[Callable[..., LiveJob]]:
    """A function that creates a scheduled job of an instance, as `LiveInstance.create_job`.

    The job is deleted after the test.
    """
    created: list[LiveJob] = []

    def create(instance: LiveInstance, *members: Any, **more: Any) -> LiveJob:
        with errors_fail_the_test():
            created.append(instance.create_job(*members, **more))
        return created[-1]

    yield create
    for each in created:
        if each.instance.is_there:
            each.delete()


@pytest.fixture
def chowder_seed(
    request: pytest.FixtureRequest, chowder_organization: LiveOrganization, tmp_path: Path
) -> Iterator[Callable[[str], Mapping[str, LiveInstance]]]:
    """A function that makes what a seed file declares for `default` in the test's organization.

    The path is relative to the test file. It returns the file's instances by name, which are
    deleted after the test.
    """
    from chowder_local.testing.seeds import seed_organization

    seeded: dict[str, LiveInstance] = {}

    def seed(path: str) -> Mapping[str, LiveInstance]:
        file, memory = request.path.parent / path, tmp_path / "seed.json"
        with errors_fail_the_test():
            made = seed_organization(chowder_organization, file, memory, environment())
        seeded.update(made)
        return made

    yield seed
    for each in seeded.values():
        delete(each)


@pytest.fixture
def chowder_faults(chowder_organization: LiveOrganization) -> Iterator[Callable[..., Any]]:
    """A function that sets a fault, as `Client.add_fault`; all are removed after the test."""
    yield chowder_organization.client.add_fault
    chowder_organization.client.clear_faults()


@contextmanager
def errors_fail_the_test() -> Iterator[None]:
    from chowder_local.core.errors import ChowderError

    try:
        yield
    except (ChowderError, ValueError) as problem:
        pytest.fail(str(problem), pytrace=False)


def delete(instance: LiveInstance) -> None:
    """Deletes an instance, unless the test has deleted it."""
    if instance.is_there:
        instance.delete()


def environment() -> dict[str, str]:
    return dict(os.environ)
