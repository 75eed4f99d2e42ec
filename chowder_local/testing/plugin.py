"""The pytest plugin: fixtures for a server, an organization, instances and scripted replies."""

from __future__ import annotations

import os
import shlex
import uuid
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

    from chowder_local.core.leases import Lease
    from chowder_local.testing.live import LiveInstance, LiveOrganization
    from chowder_local.testing.recording import NewRecording, Replay
    from chowder_local.testing.replies import Replies
    from chowder_local.testing.servers import Server

# Where the package is installed, every run of pytest imports this module: what takes time to import
# is imported where it is used.

REPLIES = "chowder_replies"
RECORDING = "chowder_recording"
STARTED = "chowder-local/started"
"""In pytest's cache: whether any run ever started a server; without one there is nothing to end."""
LIVE = pytest.StashKey["LiveOrganization"]()
"""The process's organization, once there is one."""
NEW_RECORDING = pytest.StashKey["NewRecording"]()
"""The recording that a test makes."""
LEASES = pytest.StashKey["Path"]()
"""The folder of leases, in the data directory of the server that the run has, if that is known."""
IS_NAMED = pytest.StashKey[bool]()
"""Whether the environment names the server, whose data directory may be anywhere."""
BEGAN = pytest.StashKey[datetime]()
FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chowder-local", "tests against OpenClaw agents")
    group.addoption(
        "--chowder",
        choices=("auto", "running", "start", "container"),
        default="auto",
        help="Which server: the one that CHOWDER_BASE_URL and CHOWDER_KEY name or that runs, or "
        "else one that is started for the tests (auto); the former only; the latter only; the "
        "latter in a container.",
    )
    group.addoption(
        "--chowder-keep",
        action="store_true",
        help="Leave the server that was started for the tests, so that the next run begins warm.",
    )
    group.addoption(
        "--chowder-record",
        action="store_true",
        help="Make the recordings of marked tests anew, with the model keys of the environment.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{REPLIES}(path, unused='ignore'): scripted replies for the test's instances, by a path "
        "from the test file; unused='fail' fails the test if one of them was never used.",
    )
    config.addinivalue_line(
        "markers",
        f"{RECORDING}(path): model calls of the test's instances are answered from that folder.",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Has marked tests ask for what their markers need."""
    for name in (REPLIES, RECORDING):
        if not item.get_closest_marker(name):
            continue
        if not isinstance(item, pytest.Function):
            raise pytest.UsageError(f"{item.nodeid}: {name} is for test functions only")
        if name not in item.fixturenames:
            item.fixturenames.append(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Ends the server that was started for the tests, once all processes of the run are done."""
    cache: pytest.Cache | None = getattr(session.config, "cache", None)
    if cache is None or hasattr(session.config, "workerinput"):
        return
    if not cache.get(STARTED, False):
        return
    from chowder_local.testing.server_leases import ServerLeases

    def end(kind: str) -> None:
        # A server that is kept is the next run's to end, if that has to do with it at all.
        if not session.config.getoption("--chowder-keep"):
            from chowder_local.testing.servers import Server

            stop = Server.remove_container if kind == "container" else Server.stop
            stop(_data_dir(cache), _environment())

    ServerLeases(_leases(cache)).give_up(_run(session.config), end)


@pytest.fixture(scope="session")
def chowder_server(request: pytest.FixtureRequest) -> Server:
    """The server of the run: `base_url` and an organization's `key`."""
    from chowder_local.core.settings import Settings
    from chowder_local.testing.server_leases import ServerLeases
    from chowder_local.testing.servers import Server

    config, env = request.config, _environment()
    wish = config.getoption("--chowder")
    config.stash[LEASES] = Settings.read(env).leases_dir
    config.stash[IS_NAMED] = False
    if wish not in {"start", "container"}:
        named = Server.named(env)
        config.stash[IS_NAMED] = named is not None
        found = named or Server.running(env)
        if found is not None:
            return found
        if wish == "running":
            pytest.exit("No server runs. Start one with: chowder-local up --detach", returncode=2)
    cache: pytest.Cache | None = getattr(config, "cache", None)
    if cache is None:
        pytest.exit("A server for the tests needs pytest's cache: leave out -p no:cacheprovider", 2)
    kind = "container" if wish == "container" else "start"
    begin = Server.in_container if kind == "container" else Server.start

    # All processes of a run have the same one, and the first of them starts it.
    with ServerLeases(_leases(cache)).take(_run(config), kind):
        if not cache.get(STARTED, False):
            cache.set(STARTED, True)
        config.stash[LEASES] = Settings.read({}, data_dir=_data_dir(cache)).leases_dir
        return begin(_data_dir(cache), env)


@pytest.fixture(scope="session")
def chowder_organization(
    request: pytest.FixtureRequest, chowder_server: Server
) -> Iterator[LiveOrganization]:
    """An organization of this process's own, so that parallel tests do not meet."""
    from chowder_local.client.abandoned_runs import end_abandoned, organization_facts
    from chowder_local.testing.live import LiveOrganization

    folder, is_named = request.config.stash[LEASES], request.config.stash[IS_NAMED]
    base_url = None if is_named else chowder_server.base_url
    for name, is_gone in end_abandoned(folder, _environment(), base_url):
        if not is_gone:
            warnings.warn(f"{name}, of a killed test run, is left: see {folder}", stacklevel=1)
    worker = getattr(request.config, "workerinput", {}).get("workerid", "")
    name = f"pytest {worker}".strip()
    # A recording is of what real models say, where there are keys for them.
    env = _environment() if request.config.getoption("--chowder-record") else {}
    with LiveOrganization.signed_up(chowder_server.base_url, name, env) as organization:
        request.config.stash[LIVE] = organization
        facts = organization_facts(
            organization.base_url, organization.key, name, is_other_server=is_named
        )
        lease = _take_lease(folder, facts)
        yield organization
    # A lease of agents that could not be removed stays, for the next run.
    if lease is not None:
        lease.end()


@pytest.fixture
def chowder_instance(
    request: pytest.FixtureRequest, chowder_organization: LiveOrganization
) -> Iterator[LiveInstance]:
    """A running instance for this test alone."""
    instance = chowder_organization.create_instance(request.node.name[:128])
    yield instance
    _delete(instance)


@pytest.fixture(scope="session")
def chowder_common_instance(chowder_organization: LiveOrganization) -> LiveInstance:
    """A running instance for all tests of this process, each of which has a session of its own."""
    return chowder_organization.create_instance("common")


@pytest.fixture
def chowder_session(
    request: pytest.FixtureRequest, chowder_common_instance: LiveInstance
) -> Iterator[str]:
    """The name of a new session of the common instance; `chowder_common_instance.session_url`."""
    yield f"{request.node.name}-{uuid.uuid4().hex[:8]}"
    chowder_common_instance.replies.clear()


@pytest.fixture
def chowder_fork(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[LiveInstance], LiveInstance]]:
    """Forks an instance for this test alone: seed one for all tests, and fork it in each."""
    forks: list[LiveInstance] = []

    def fork(instance: LiveInstance) -> LiveInstance:
        forks.append(instance.fork(request.node.name[:128]))
        return forks[-1]

    yield fork
    for made in forks:
        _delete(made)


@pytest.fixture
def chowder_replies(
    request: pytest.FixtureRequest, chowder_organization: LiveOrganization
) -> Iterator[Replies]:
    """What the model says to the test's instances, whichever they are: forks, too.

    The marker `chowder_replies("file.yaml")` has those of the file in force from the start, and is
    enough where nothing is added to them.
    """
    replies = chowder_organization.replies
    try:
        with _errors_fail_the_test():
            for marker in reversed(list(request.node.iter_markers(REPLIES))):
                replies.unused = marker.kwargs.get("unused", replies.unused)
                for path in marker.args[:1]:
                    replies.load(request.path.parent / str(path))
        yield replies
    finally:
        replies.clear()


@pytest.fixture
def chowder_recording(
    request: pytest.FixtureRequest, chowder_organization: LiveOrganization
) -> Iterator[None]:
    """Answers the model calls of the test's instances from a recording, or makes it.

    The marker `chowder_recording("folder")` is enough. `--chowder-record` makes it anew, unless
    the test fails or no real model has answered.
    """
    from chowder_local.testing.recording import NewRecording, Replay

    marker = request.node.get_closest_marker(RECORDING)
    folder = request.path.parent / str(marker.args[0])
    recording: Replay | NewRecording
    if request.config.getoption("--chowder-record"):
        recording = request.node.stash[NEW_RECORDING] = NewRecording(folder)
    else:
        with _errors_fail_the_test():
            recording = Replay(folder, _command_to_record(request.node))
    for instance in chowder_organization.instances:
        recording.begin(instance)
    chowder_organization.on_instance = recording.begin
    yield
    chowder_organization.on_instance = None
    if isinstance(recording, Replay):
        recording.end()
    elif not request.node.stash.get(FAILED, False):
        recording.write()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remembers since when a test has its instances, also if it is run once more."""
    item.stash[BEGAN], item.stash[FAILED] = datetime.now(UTC), False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fails a test whose agents got messages that no rule is about, if its script says so, or whose
    recording would not be of real models.
    """
    yield
    if REPLIES in getattr(item, "fixturenames", ()):
        organization = item.config.stash[LIVE]
        new = [each for each in organization.instances if each.created_at >= item.stash[BEGAN]]
        for replies in (organization.replies, *(each.replies for each in new)):
            for problem in replies.problems():
                pytest.fail(problem, pytrace=False)
    if (recording := item.stash.get(NEW_RECORDING, None)) is not None:
        with _errors_fail_the_test():
            recording.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what a failed test's instances were sent and answered to its report."""
    report = yield
    names = getattr(item, "fixturenames", ())
    if not report.failed or not any(each.startswith("chowder_") for each in names):
        return report
    item.stash[FAILED] = True
    from chowder_local.core.errors import ChowderError

    organization = item.config.stash.get(LIVE, None)
    for instance in organization.instances if organization is not None else ():
        try:
            report.sections += instance.report(item.stash[BEGAN])
        except ChowderError as problem:
            report.sections.append((f"of {instance.name}", f"nothing more: {problem}"))
    if RECORDING in names and NEW_RECORDING not in item.stash:
        command = _command_to_record(item)
        report.sections.append(("recording", f"Answered from it. Make it anew with: {command}"))
    return report


def _command_to_record(item: pytest.Item) -> str:
    return f"pytest --chowder-record {shlex.quote(item.nodeid)}"


@contextmanager
def _errors_fail_the_test() -> Iterator[None]:
    from chowder_local.core.errors import ChowderError

    try:
        yield
    except (ChowderError, ValueError) as problem:
        pytest.fail(str(problem), pytrace=False)


def _delete(instance: LiveInstance) -> None:
    """Deletes it, unless the test has done so itself."""
    if instance.is_there:
        instance.delete()


def _take_lease(folder: Path, facts: Mapping[str, str]) -> Lease | None:
    from chowder_local.core.leases import Lease

    try:
        return Lease.take(folder, facts)
    except OSError as problem:
        warnings.warn(f"If this run is killed, its agents go on: {problem}", stacklevel=1)
        return None


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _data_dir(cache: pytest.Cache) -> Path:
    """Where a server for the tests has its data: always the same place for a project."""
    return cache.mkdir("chowder-local") / "server"


def _leases(cache: pytest.Cache) -> Path:
    return cache.mkdir("chowder-local") / "runs"


def _run(config: pytest.Config) -> int:
    """The process of this run that outlives all others of it."""
    return os.getppid() if hasattr(config, "workerinput") else os.getpid()
