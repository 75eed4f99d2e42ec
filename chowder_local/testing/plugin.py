"""The pytest plugin: fixtures for a server, an organization, instances and scripted replies."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import uuid
import warnings
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import wraps
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.testing.state_fixtures import (  # noqa: F401 - pytest finds fixtures here
    chowder_approvals,
    chowder_clock,
    chowder_faults,
    chowder_fork,
    chowder_golden,
    chowder_hold,
    chowder_inbox,
    chowder_job,
    chowder_messenger,
    chowder_seed,
    chowder_snapshot,
    delete,
    environment,
    errors_fail_the_test,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from chowder_local.core.data_dir import Lease
    from chowder_local.testing.live import LiveInstance, LiveOrganization
    from chowder_local.testing.recording import NewRecording, Replay
    from chowder_local.testing.replies import Replies
    from chowder_local.testing.servers import Server
    from chowder_local.trials.run import Trial, TrialsReport
    from chowder_local.trials.spending import Spending

__tracebackhide__ = True

# Every run of pytest imports this module if the package is installed, so slow imports are inside
# functions.

REPLIES = "chowder_replies"
RECORDING = "chowder_recording"
BUDGET = "chowder_budget"
TRIALS = "chowder_trials"
MARKERS: dict[str, tuple[str, int, set[str]]] = {
    REPLIES: ("(path, unused='ignore')", 1, {"unused"}),
    RECORDING: ("(path)", 1, set()),
    BUDGET: ("(usd=1, tokens=None, model_calls=None)", 0, {"usd", "tokens", "model_calls"}),
    TRIALS: (
        "(20, at_least=0.9, confidence=0.95, isolation='fork', seed=None)",
        1,
        {"trials", "at_least", "confidence", "isolation", "seed"},
    ),
}
"""What each marker takes, how many arguments without a name, and its named arguments."""
SERVER_STARTED = "chowder-local/started"
"""The key in pytest's cache of whether a run of the project ever started a server."""
ORGANIZATION = pytest.StashKey["LiveOrganization"]()
"""The organization of this process, once there is one."""
NEW_RECORDING = pytest.StashKey["NewRecording"]()
"""The recording that a test makes."""
REPLAY = pytest.StashKey["Replay"]()
"""The recording that answers a test's model calls."""
LEASES = pytest.StashKey["Path"]()
"""The folder of leases, in the data directory of the run's server if that is known."""
IS_NAMED = pytest.StashKey[bool]()
"""Whether the environment names the server; its data directory is unknown then."""
TRIALS_REPORT = pytest.StashKey["TrialsReport"]()
"""What the trials of a test have come to."""
START_TIME = pytest.StashKey[datetime]()
SPENT_BEFORE = pytest.StashKey["Spending"]()
"""What the organization had taken before a test."""
BOOT_S = 3.0
"""An agent that takes longer to run was booted, and had no warm sandbox."""
HAS_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chowder-local", "tests against OpenClaw agents")
    group.addoption(
        "--chowder",
        choices=("auto", "running", "start", "container"),
        default="auto",
        help="Which server to use. running: the one that CHOWDER_BASE_URL and CHOWDER_KEY name, or "
        "that runs on this machine. start: one that is started for the tests. container: the same, "
        "in a container. auto: a running one, or else one that is started.",
    )
    group.addoption(
        "--chowder-keep",
        action="store_true",
        help="Leave the server running that was started for the tests, for the next run.",
    )
    group.addoption(
        "--chowder-record",
        action="store_true",
        help="Record the marked tests again, with the model keys of the environment.",
    )
    group.addoption(
        "--chowder-budget",
        type=_usd,
        metavar="USD",
        help="Most that the model calls of the whole run may cost. The processes of pytest-xdist "
        "share it evenly.",
    )
    group.addoption(
        "--chowder-seed",
        type=int,
        metavar="SEED",
        help="Seed of all trials, to repeat those of a run, which has printed it.",
    )
    group.addoption(
        "--chowder-baseline",
        metavar="FILE",
        help="Run all trials, compare pass rates, cost, tokens, turns and durations with those of "
        "a file, and fail if something became significantly worse. The first run writes the file.",
    )
    group.addoption(
        "--chowder-report",
        metavar="DIR",
        help="Write a summary, the transcripts of tests and a report for GitLab to this folder.",
    )
    group.addoption(
        "--chowder-update",
        action="store_true",
        help="Write the baseline and the golden transcripts of the tests that run.",
    )


def _usd(text: str) -> float:
    usd = float(text)
    if not 0 <= usd < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no amount of USD")
    return usd


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{REPLIES}(path, unused='ignore'): The test's instances get the scripted replies of a "
        "file; the path is relative to the test file. unused='fail' fails the test if a rule was "
        "never used.",
    )
    config.addinivalue_line(
        "markers",
        f"{RECORDING}(path): Model calls of the test's instances are answered from a folder with a "
        "recording; the path is relative to the test file.",
    )
    config.addinivalue_line(
        "markers",
        f"{BUDGET}(usd=1, tokens=None, model_calls=None): Each agent of the test may take so "
        "much in it. Past it the agent's turns end, and the test fails.",
    )
    config.addinivalue_line(
        "markers",
        f"{TRIALS}(20, at_least=0.9, confidence=0.95, isolation='fork', seed=None): The test's "
        "body runs up to so often, each time on forks of the agents that are its arguments, until "
        "it is certain whether the share at_least passes. isolation='session': on the same agent, "
        "in a new chowder_session.",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Collects what tests come to, in the process that reports, if anybody reads it."""
    config = session.config
    if _reports_facts(config) and not hasattr(config, "workerinput"):
        from chowder_local.testing.run_report import RunReport

        config.pluginmanager.register(RunReport(config, environment()), "chowder-run-report")


def _reports_facts(config: pytest.Config) -> bool:
    """Whether anybody reads what tests came to, which takes calls to find out."""
    options = ("--chowder-baseline", "--chowder-report", "xmlpath")
    return any(config.getoption(each, None) for each in options) or bool(
        environment().get("GITHUB_STEP_SUMMARY")
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Adds the fixtures of their markers to marked tests."""
    for name in MARKERS:
        if not item.get_closest_marker(name):
            continue
        if not isinstance(item, pytest.Function):
            raise pytest.UsageError(f"{item.nodeid}: {name} is for test functions only")
        for marker in item.iter_markers(name):
            _check(item, marker)
        if name not in item.fixturenames:
            item.fixturenames.append(name)


def _check(item: pytest.Function, marker: pytest.Mark) -> None:
    # pytest takes any arguments, and a misspelt one would be ignored silently.
    signature, count, names = MARKERS[marker.name]
    is_known = len(marker.args) <= count and marker.kwargs.keys() <= names
    if not is_known or not (marker.args or marker.kwargs):
        raise pytest.UsageError(f"{item.nodeid}: write the marker as {marker.name}{signature}")
    if marker.name == TRIALS:
        from chowder_local.testing.trials import check_marker

        check_marker(item, marker)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Ends the server that was started for the tests, after the last run that uses it."""
    cache: pytest.Cache | None = getattr(session.config, "cache", None)
    if cache is None or hasattr(session.config, "workerinput"):
        return
    if not cache.get(SERVER_STARTED, False):
        return
    from chowder_local.testing.servers import ServerLeases

    def end(kind: str) -> None:
        # A server that is kept is ended by a later run that uses it.
        if not session.config.getoption("--chowder-keep"):
            from chowder_local.testing.servers import Server

            stop = Server.remove_container if kind == "container" else Server.stop
            stop(_data_dir(cache), environment())

    ServerLeases(_leases(cache)).release(_run_id(session.config), end)


@pytest.fixture(scope="session")
def chowder_server(request: pytest.FixtureRequest) -> Server:
    """The server of the run, with `base_url` and the `key` of an organization."""
    from chowder_local.core.settings import Settings
    from chowder_local.core.wording import MOMENT_S, progress_lines
    from chowder_local.testing.servers import Server, ServerLeases

    config, env = request.config, environment()
    choice = config.getoption("--chowder")
    config.stash[LEASES] = Settings.read(env).leases_dir
    config.stash[IS_NAMED] = False
    if choice not in {"start", "container"}:
        named = Server.from_environment(env)
        config.stash[IS_NAMED] = named is not None
        server = named or Server.running(env)
        if server is not None:
            return server
        if choice == "running":
            pytest.exit("No server runs. Start one with: chowder-local up --detach", returncode=2)
    cache: pytest.Cache | None = getattr(config, "cache", None)
    if cache is None:
        pytest.exit("A server for the tests needs pytest's cache. Remove -p no:cacheprovider.", 2)
    kind = "container" if choice == "container" else "start"
    start = Server.in_container if kind == "container" else Server.start

    # All processes of a run share one server, which the first of them starts.
    with ServerLeases(_leases(cache)).take(_run_id(config), kind):
        if not cache.get(SERVER_STARTED, False):
            cache.set(SERVER_STARTED, True)
        config.stash[LEASES] = Settings.read({}, data_dir=_data_dir(cache)).leases_dir
        words = "a server for the tests starts; if its sandbox image is missing, it is built first"
        with progress_lines(_saying(config), words, MOMENT_S):
            return start(_data_dir(cache), env)


@pytest.fixture(scope="session")
def chowder_organization(
    request: pytest.FixtureRequest, chowder_server: Server
) -> Iterator[LiveOrganization]:
    """An organization of the test process alone, so that parallel tests do not share one."""
    from chowder_local.client.abandoned_runs import end_abandoned, organization_facts
    from chowder_local.testing.live import LiveOrganization

    folder, is_named = request.config.stash[LEASES], request.config.stash[IS_NAMED]
    base_url = None if is_named else chowder_server.base_url
    for name, is_gone in end_abandoned(folder, environment(), base_url):
        if not is_gone:
            warnings.warn(f"Cannot clean up the killed test run {name}: see {folder}", stacklevel=1)
    worker = getattr(request.config, "workerinput", {}).get("workerid", "")
    name = f"pytest {worker}".strip()
    # Recordings need real models, with the keys of the environment.
    env = environment() if request.config.getoption("--chowder-record") else {}
    with LiveOrganization.sign_up(chowder_server.base_url, name, env) as organization:
        request.config.stash[ORGANIZATION] = organization
        organization.say = _saying(request.config)
        facts = organization_facts(
            organization.base_url, organization.key, name, is_other_server=is_named
        )
        lease = _take_lease(folder, facts)
        if (usd := request.config.getoption("--chowder-budget")) is not None:
            count = getattr(request.config, "workerinput", {}).get("workercount", 1)
            organization.client.set_budget("total", usd=usd / count)
        yield organization
    # If the reset fails, the lease stays, and the next run removes the agents.
    if lease is not None:
        lease.end()


@pytest.fixture
def chowder_instance(
    request: pytest.FixtureRequest, chowder_organization: LiveOrganization
) -> Iterator[LiveInstance]:
    """A running instance for one test."""
    instance = chowder_organization.create_instance(request.node.name[:128])
    yield instance
    delete(instance)


@pytest.fixture(scope="session")
def chowder_common_instance(chowder_organization: LiveOrganization) -> LiveInstance:
    """A running instance for all tests of the process; `chowder_session` gives each a session."""
    return chowder_organization.create_instance("common")


@pytest.fixture
def chowder_session(
    request: pytest.FixtureRequest, chowder_common_instance: LiveInstance
) -> Iterator[str]:
    """The name of a new session of the common instance, for `session_url` and `respond`."""
    yield f"{request.node.name}-{uuid.uuid4().hex[:8]}"
    chowder_common_instance.replies.clear()


@pytest.fixture
def chowder_replies(
    request: pytest.FixtureRequest, chowder_organization: LiveOrganization
) -> Iterator[Replies]:
    """The scripted replies of all of the test's instances, forks included.

    The marker `chowder_replies("file.yaml")` loads a file before the test. A test that adds no rule
    needs the marker only.
    """
    replies = chowder_organization.replies
    try:
        with errors_fail_the_test():
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
    """Answers the model calls of the test's instances from a recording, or makes the recording.

    A test needs the marker `chowder_recording("folder")` only. With `--chowder-record` the test
    records the folder again, unless it fails or no real model has answered.
    """
    from chowder_local.testing.recording import NewRecording, Replay

    folder = _recording_folder(request.node)
    recording: Replay | NewRecording
    if request.config.getoption("--chowder-record"):
        recording = request.node.stash[NEW_RECORDING] = NewRecording(folder)
    else:
        with errors_fail_the_test():
            recording = Replay(folder, _command_to_record(request.node))
        request.node.stash[REPLAY] = recording
    for instance in chowder_organization.instances:
        recording.begin(instance)
    chowder_organization.on_instance.append(recording.begin)
    yield
    chowder_organization.on_instance.remove(recording.begin)
    if isinstance(recording, Replay):
        recording.end()
    elif not request.node.stash.get(HAS_FAILED, False):
        recording.write()


@pytest.fixture
def chowder_budget(
    request: pytest.FixtureRequest, chowder_organization: LiveOrganization
) -> Iterator[None]:
    """Limits what each agent of the test may take in it; for the marker of the same name."""
    limits: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(BUDGET))):
        limits |= marker.kwargs

    def begin(instance: LiveInstance) -> None:
        instance.client.remove_budget(instance.id)
        with errors_fail_the_test():
            instance.client.set_budget("total", instance.id, **limits)

    for instance in chowder_organization.instances:
        begin(instance)
    chowder_organization.on_instance.append(begin)
    yield
    chowder_organization.on_instance.remove(begin)
    for instance in chowder_organization.instances:
        instance.client.remove_budget(instance.id)


@pytest.fixture
def chowder_trials(chowder_organization: LiveOrganization) -> None:
    """Runs the test's body as trials; for the marker of the same name."""


@pytest.fixture
def chowder_trial(request: pytest.FixtureRequest) -> Trial | None:
    """The trial of a test with the marker `chowder_trials`: `number`, `seed` and `random`.

    `random` has random numbers that are the same in a run with the same seed.
    """
    if TRIALS not in request.fixturenames:
        pytest.fail(f"Mark the test with {TRIALS}(20, at_least=0.9).", pytrace=False)
    # Each trial has its own in place of this.
    return None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Runs the body of a marked test as trials, also if it is a coroutine function."""
    marker = pyfuncitem.get_closest_marker(TRIALS)
    if marker is None:
        return (yield)
    from chowder_local.testing.trials import MarkedTest, fail_unless_passed

    organization, body = pyfuncitem.config.stash[ORGANIZATION], pyfuncitem.obj
    marked = MarkedTest(pyfuncitem, organization, *marker.args, **marker.kwargs)

    # It shows the source of the body in reports.
    @wraps(body)
    def run_trials(**shared: Any) -> None:
        report = pyfuncitem.stash[TRIALS_REPORT] = marked.run(shared)
        fail_unless_passed(report)

    # No plugin for async tests, nor pytest itself, calls the body instead.
    pyfuncitem.obj = run_trials
    try:
        return (yield)
    finally:
        pyfuncitem.obj = body


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keeps the start time of a test, also if the test is run again."""
    item.stash[START_TIME], item.stash[HAS_FAILED] = datetime.now(UTC), False
    organization = item.config.stash.get(ORGANIZATION, None)
    if organization is not None and _reports_facts(item.config):
        from chowder_local.trials.spending import total

        item.stash[SPENT_BEFORE] = total(organization.client)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fails a test for mistakes in its scripted replies, or for a recording without real models.

    A budget that is spent, or a message that no rule matched, is the cause of what fails after it,
    so it is reported instead.
    """
    try:
        yield
    except pytest.xfail.Exception:
        # It is a failure to pytest's classes, but the test asked for it.
        raise
    except (Exception, pytest.fail.Exception) as raised:
        if TRIALS in _fixtures(item):
            # Each trial has been judged by itself.
            raise
        if (cause := _exceeded(item) or _unmatched(item)) is not None:
            own = _within(raised.__traceback__, str(item.path))
            raise pytest.fail.Exception(cause).with_traceback(own) from None
        raise
    for replies in _scripts(item) if TRIALS not in _fixtures(item) else ():
        for problem in replies.problems():
            pytest.fail(problem, pytrace=False)
    if (recording := item.stash.get(NEW_RECORDING, None)) is not None:
        with errors_fail_the_test():
            recording.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds transcripts, model calls and logs of its instances to the report of a failed test.

    Every report has what the test waited for, which xdist brings to the summary.
    """
    report = yield
    organization = item.config.stash.get(ORGANIZATION, None)
    if organization is not None:
        vars(report)["chowder_waits"], organization.waits = organization.waits, []
    trials: TrialsReport | None = item.stash.get(TRIALS_REPORT, None)
    if trials is not None and call.when == "call":
        vars(report)["chowder_trials"] = trials.as_json() | {"headline": trials.headline}
        for each in trials.first_failures():
            report.sections += [
                (f"trial {each.number}: {title}", text) for title, text in each.sections
            ]
    names = _fixtures(item)
    if not any(each.startswith("chowder_") for each in names):
        return report
    if organization is not None and call.when == "call" and not report.skipped:
        _add_facts(item, organization, report)
    if not report.failed:
        return report
    item.stash[HAS_FAILED] = True
    from chowder_local.core.errors import ChowderError

    report.sections += _sections(item, organization)
    if RECORDING in names and NEW_RECORDING not in item.stash:
        replay = item.stash.get(REPLAY, None)
        try:
            is_replayed = replay is not None and replay.has_answered(item.stash[START_TIME])
        except ChowderError:
            # The sections above say that they are incomplete.
            is_replayed = False
        text = "It was replayed. Record again with" if is_replayed else "Record with"
        report.sections.append(("recording", f"{text}: {_command_to_record(item)}"))
    return report


def _sections(
    item: pytest.Item, organization: LiveOrganization | None
) -> Iterator[tuple[str, str]]:
    """Titles and texts of what a test's instances did in it."""
    from chowder_local.core.errors import ChowderError

    for instance in organization.instances if organization is not None else ():
        try:
            yield from instance.report(item.stash[START_TIME])
        except ChowderError as problem:
            yield f"report of {instance.name}", f"incomplete: {problem}"


def _add_facts(
    item: pytest.Item, organization: LiveOrganization, report: pytest.TestReport
) -> None:
    """Adds what a test came to, for the baseline, CI and JUnit's XML."""
    if not _reports_facts(item.config):
        return
    from chowder_local.core.errors import ChowderError
    from chowder_local.testing.run_report import (
        facts_of_test,
        facts_of_trials,
        properties,
        spent_in_test,
    )

    trials = item.stash.get(TRIALS_REPORT, None)
    try:
        if trials is not None:
            facts = facts_of_trials(trials)
        else:
            before: Spending | None = item.stash.get(SPENT_BEFORE, None)
            spent = spent_in_test(organization, before, item.stash[START_TIME])
            facts = facts_of_test(spent, report.duration, has_passed=report.passed)
    except ChowderError as problem:
        # The test's own outcome counts.
        warnings.warn(f"What {item.nodeid} took is unknown: {problem}", stacklevel=1)
        return
    own = properties(facts)
    item.user_properties += own
    report.user_properties += own
    sections: list[tuple[str, str]] = []
    if trials is not None:
        # The first that did not pass are in the report itself.
        others = [each for each in trials.results if each not in trials.first_failures()]
        sections = [
            (f"trial {each.number}: {title}", text)
            for each in others
            for title, text in each.sections
        ]
    elif report.passed and item.config.getoption("--chowder-report"):
        sections = list(_sections(item, organization))
    vars(report)["chowder_facts"] = facts | {"sections": sections}


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


def _scripts(item: pytest.Item) -> list[Replies]:
    """The scripts of a test that uses `chowder_replies`."""
    if REPLIES not in _fixtures(item):
        return []
    organization = item.config.stash[ORGANIZATION]
    new = [each for each in organization.instances if each.created_at >= item.stash[START_TIME]]
    return [organization.replies, *(each.replies for each in new)]


def _exceeded(item: pytest.Item) -> str | None:
    """What a budget says that has refused a model call of a test, if one has."""
    organization = item.config.stash.get(ORGANIZATION, None)
    if organization is None or not any(each.startswith("chowder_") for each in _fixtures(item)):
        return None
    from chowder_local.trials.spending import refusal

    ids = [each.id for each in organization.instances]
    refused = refusal(organization.client, ids, item.stash[START_TIME])
    if refused is None:
        return None
    message, is_shared = refused
    if not is_shared and BUDGET in _fixtures(item):
        return f"{message} The test's marker {BUDGET} sets this budget."
    if is_shared and item.config.getoption("--chowder-budget") is not None:
        return f"{message} The option --chowder-budget sets this budget."
    return message


def _unmatched(item: pytest.Item) -> str | None:
    """The problem of a test that has failed, if a message of it matched no rule."""
    from chowder_local.core.errors import ChowderError

    try:
        return next((next(each.problems()) for each in _scripts(item) if each.misses), None)
    except ChowderError as problem:
        # The failure itself is reported.
        warnings.warn(f"The scripted replies cannot be checked: {problem}", stacklevel=1)
        return None


def _within(traceback: TracebackType | None, path: str) -> TracebackType | None:
    """A traceback without what is below its last frame in a file."""
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    while frames and frames[-1].tb_frame.f_code.co_filename != path:
        frames.pop()
    if frames:
        frames[-1].tb_next = None
    return frames[0] if frames else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what trials have come to, and how long tests waited for agents, if that is much."""
    reports = [each for reports in terminalreporter.stats.values() for each in reports]
    trials = [each for each in reports if hasattr(each, "chowder_trials")]
    if trials:
        terminalreporter.section("chowder-local: trials")
    for each in trials:
        found = each.chowder_trials
        terminalreporter.line(f"{each.nodeid}\n  {found['headline']}. Seed {found['seed']}.")
    _summarize_waits(terminalreporter, reports)


def _summarize_waits(
    terminalreporter: pytest.TerminalReporter, reports: Sequence[pytest.TestReport]
) -> None:
    """Says how long tests waited for agents, if that is a third of their time or more."""
    waits: dict[str, list[float]] = {}
    for each in reports:
        for kind, seconds in getattr(each, "chowder_waits", ()):
            waits.setdefault(kind, []).append(seconds)
    waited = sum(map(sum, waits.values()))
    if waited * 3 < sum(getattr(each, "duration", 0) for each in reports) or not waits:
        return
    terminalreporter.section("chowder-local: waiting for agents")
    for kind, seconds in waits.items():
        middle, total = median(seconds), sum(seconds)
        terminalreporter.line(
            f"{kind:<8}{len(seconds):>5} x  median {middle:6.2f} s  total {total:7.1f} s"
        )
    is_cold = max(map(median, waits.values())) > BOOT_S
    remedy = (
        "Most of them booted: raise CHOWDER_WARM_POOL_SIZE, or share chowder_common_instance."
        if is_cold
        else "Share chowder_common_instance where tests need only a conversation of their own."
    )
    terminalreporter.line(f'{remedy} The guide "Why is my suite slow" explains it.')


def _recording_folder(item: pytest.Item) -> Path:
    marker = item.get_closest_marker(RECORDING)
    if marker is None:
        pytest.fail(f'Name the folder: mark the test with {RECORDING}("folder").', pytrace=False)
    return item.path.parent / str(marker.args[0])


def _command_to_record(item: pytest.Item) -> str:
    return f"pytest --chowder-record {shlex.quote(item.nodeid)}"


def _saying(config: pytest.Config) -> Callable[[str], None]:
    """A function that prints a line to standard error, past pytest's capture."""
    capture = config.pluginmanager.getplugin("capturemanager")
    # Trials run in threads.
    one = Lock()

    def say(line: str) -> None:
        with one, nullcontext() if capture is None else capture.global_and_fixture_disabled():
            # pytest's own line, such as "test_a.py .", has no end yet.
            sys.stderr.write(f"\nchowder-local: {line}\n")
            sys.stderr.flush()

    return say


def _take_lease(folder: Path, facts: Mapping[str, str]) -> Lease | None:
    from chowder_local.core.data_dir import Lease

    try:
        return Lease.take(folder, facts)
    except OSError as problem:
        warnings.warn(f"If this run is killed, its agents keep running: {problem}", stacklevel=1)
        return None


def _data_dir(cache: pytest.Cache) -> Path:
    """The data directory of the server for the tests, the same for all runs of a project."""
    return cache.mkdir("chowder-local") / "server"


def _leases(cache: pytest.Cache) -> Path:
    return cache.mkdir("chowder-local") / "runs"


def _run_id(config: pytest.Config) -> int:
    """The id of the main process of the run, which outlives its workers."""
    return os.getppid() if hasattr(config, "workerinput") else os.getpid()
