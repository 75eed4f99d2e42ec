"""The executor whose threads do not delay the end of the process."""

import subprocess
import sys
import threading
from concurrent.futures import Future, wait

import pytest

from chowder_local.engine.threads import Workers

DEADLINE_S = 10.0


def name_of_thread() -> str:
    return threading.current_thread().name


def test_calls_use_no_more_threads_than_allowed() -> None:
    workers = Workers(3, "work")
    futures: list[Future[str]] = [workers.submit(name_of_thread) for _ in range(50)]
    names = {future.result(DEADLINE_S) for future in futures}
    assert names <= {"work_0", "work_1", "work_2"}
    workers.shutdown()


def test_a_thread_is_started_only_if_none_is_idle() -> None:
    workers, may_end = Workers(2, "work"), threading.Event()
    slow = workers.submit(may_end.wait, DEADLINE_S)
    # Without a second thread, this would never end.
    assert workers.submit(name_of_thread).result(DEADLINE_S) == "work_1"
    may_end.set()
    assert slow.result(DEADLINE_S)
    workers.shutdown()


def test_an_exception_of_a_call_is_set_on_its_future() -> None:
    workers = Workers(1, "work")
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result(DEADLINE_S)
    assert workers.submit(divmod, 3, 2).result(DEADLINE_S) == (1, 1)
    workers.shutdown()


def test_a_shutdown_without_waiting_cancels_queued_calls() -> None:
    workers, begun, may_end = Workers(1, "work"), threading.Event(), threading.Event()

    def call() -> str:
        begun.set()
        assert may_end.wait(DEADLINE_S)
        return "done"

    slow, never = workers.submit(call), workers.submit(name_of_thread)
    assert begun.wait(DEADLINE_S)
    workers.shutdown(wait=False, cancel_futures=True)
    assert never.cancelled()
    assert not slow.done()
    may_end.set()
    wait([slow], DEADLINE_S)
    assert slow.result() == "done"
    with pytest.raises(RuntimeError):
        workers.submit(name_of_thread)


def test_a_process_ends_while_a_call_still_runs() -> None:
    program = (
        "import threading; from chowder_local.engine.threads import Workers; "
        "begun = threading.Event(); workers = Workers(1, 'work'); "
        "workers.submit(lambda: (begun.set(), threading.Event().wait())); begun.wait()"
    )
    # Fails by its timeout if the process waits for its threads.
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
