"""Fixtures that bring the agents of a test into a state: forks, snapshots, seeds and faults."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from chowder_local.testing.live import (
        LiveApprovals,
        LiveClock,
        LiveHold,
        LiveInbox,
        LiveInstance,
        LiveJob,
        LiveMessenger,
        LiveOrganization,
    )

__tracebackhide__ = True

GOLDEN = "golden"
MAX_TURNS = 1_000

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
    seeded: dict[str, LiveInstance] = {}

    def seed(path: str) -> Mapping[str, LiveInstance]:
        file, memory = request.path.parent / path, tmp_path / "seed.json"
        with errors_fail_the_test():
            made = _seed(chowder_organization, file, memory, environment())
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


@pytest.fixture
def chowder_hold() -> Iterator[Callable[..., LiveHold]]:
    """A function that holds the model calls of an instance, all or those that match.

    `chowder_hold(instance, text="weather", tool="exec", model="gpt-*", call_number=1)` returns a
    `LiveHold`: `say` sends a message, `wait` returns the held call with its `request`. What is
    held at the end of the test goes on.
    """
    from chowder_local.testing.live import LiveHold

    holds: list[LiveHold] = []

    def hold(instance: LiveInstance, *, once: bool = False, **match: Any) -> LiveHold:
        with errors_fail_the_test():
            instance.client.set_breakpoint(instance.id, match, once=once)
        holds.append(LiveHold(instance))
        return holds[-1]

    yield hold
    for each in holds:
        each.end()


@pytest.fixture
def chowder_approvals(chowder_instance: LiveInstance) -> Iterator[LiveApprovals]:
    """Decides about the commands of `chowder_instance`, which asks before each from a rule on.

    `chowder_approvals.deny("rm *")` and `allow("git *")` add rules: the first that matches decides,
    and a command that none matches runs. `decided` lists the commands with their decisions, and
    `of(instance)` is for another instance.
    """
    from chowder_local.testing.live import LiveApprovals

    approvals = LiveApprovals(chowder_instance)
    yield approvals
    with errors_fail_the_test():
        approvals.end()


@pytest.fixture
def chowder_clock() -> Iterator[Callable[[LiveInstance], LiveClock]]:
    """A function that returns the clock of an instance, which gets the machine's after the test.

    An instance that has jobs then cannot go back: use `chowder_instance`, or a fork.
    """
    taken: list[LiveInstance] = []

    def take(instance: LiveInstance) -> LiveClock:
        taken.append(instance)
        return instance.clock

    yield take
    for each in taken:
        if each.is_there:
            with errors_fail_the_test():
                each.clock.reset()


@pytest.fixture
def chowder_messenger(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., LiveMessenger]]:
    """A function that connects a channel, such as `telegram`, to the local messenger.

    It takes the instance, too, which is `chowder_instance` if it is left out. After the test, the
    channel is disconnected and its messages are removed.
    """
    taken: list[tuple[LiveInstance, str]] = []

    def take(channel: str, instance: LiveInstance | None = None) -> LiveMessenger:
        agent = instance or request.getfixturevalue("chowder_instance")
        taken.append((agent, channel))
        with errors_fail_the_test():
            messenger: LiveMessenger = agent.messenger(channel)
        return messenger

    yield take
    for agent, channel in taken:
        if agent.is_there:
            with errors_fail_the_test():
                agent.client.disconnect_channel(agent.id, channel)
                agent.client.clear_channel_messages(agent.id, channel)


def _seed(
    organization: LiveOrganization, file: Path, memory_file: Path, env: Mapping[str, str]
) -> dict[str, LiveInstance]:
    """Brings a test's organization to what a file declares for `default`; its instances by name.

    Raises SettingsInvalid if the file is invalid or a step is refused, ValueError if the file
    declares another organization, and BootFailed if an instance does not run.
    """
    from chowder_local.accounts.bootstrap import NAME as DEFAULT
    from chowder_local.seeding.desired_state import read_seed
    from chowder_local.seeding.run import seed
    from chowder_local.seeding.target import Memory, SeedTarget

    declared = read_seed(file, env)
    others = [each.name for each in declared.organizations if each.name != DEFAULT]
    if others:
        raise ValueError(
            f"{file} declares {', '.join(others)}. A test has one organization: call it {DEFAULT}."
        )
    base_url = organization.base_url

    def removal(_: str, instance_id: str) -> str:
        return f"chowder_organization.client.delete({instance_id!r})"

    def report(_: str) -> None:
        """The report of a failed test has what went wrong."""

    memory, root_url = Memory(memory_file), base_url.removesuffix("/v1")
    with SeedTarget(
        root_url, organization.key, memory, report, public_url=base_url, removal=removal
    ) as target:
        (result,) = seed(declared, target, report).declared["organizations"]
    known = {each.id: each for each in organization.instances}
    return {
        each["name"]: known.get(each["id"]) or organization.adopt(each["id"])
        for each in result["instances"]
    }


@pytest.fixture
def chowder_golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that compares a conversation with the golden transcript of a name.

    `chowder_golden("greeting", instance, session)` compares with `golden/greeting.txt` beside the
    test file; ids, times and paths do not count. The instance is `chowder_instance` if it is left
    out, and the session the main one. With `--chowder-update` it writes the file.
    """

    def compare(
        name: str, instance: LiveInstance | None = None, session: str | None = None
    ) -> None:
        __tracebackhide__ = True
        from chowder_local.trials.golden import difference, render

        agent = instance or request.getfixturevalue("chowder_instance")
        with errors_fail_the_test():
            found = render(agent.client.transcript(agent.id, session, limit=MAX_TURNS)["turns"])
        file = request.path.parent / GOLDEN / f"{name}.txt"
        command = f"pytest --chowder-update {shlex.quote(request.node.nodeid)}"
        if request.config.getoption("--chowder-update"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(found, "utf-8")
        elif not file.exists():
            pytest.fail(f"There is no golden transcript {file}. Write it with: {command}")
        elif (expected := file.read_text("utf-8")) != found:
            changes = difference(expected, found)
            pytest.fail(
                f"The conversation differs from {file}:\n{changes}\n"
                f"If it is right as it is, write it with: {command}"
            )

    return compare


@pytest.fixture
def chowder_inbox() -> Iterator[Callable[[LiveInstance], LiveInbox]]:
    """A function that returns the inbox of an instance, empty at first and after the test."""
    taken: list[LiveInstance] = []

    def take(instance: LiveInstance) -> LiveInbox:
        taken.append(instance)
        instance.inbox.clear()
        return instance.inbox

    yield take
    for each in taken:
        if each.is_there:
            with errors_fail_the_test():
                each.inbox.clear()


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
