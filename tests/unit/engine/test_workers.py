"""The executor whose threads do not delay the end of the process."""

import subprocess
import sys
import threading

from chowder_local.engine.threads import Workers

DEADLINE_S = 10.0


def name_of_thread() -> str:
    return threading.current_thread().name


def test_a_thread_is_started_only_if_none_is_idle() -> None:
    workers, may_end = Workers(2, "work"), threading.Event()
    slow = workers.submit(may_end.wait, DEADLINE_S)
    # Without a second thread, this would never end.
    assert workers.submit(name_of_thread).result(DEADLINE_S) == "work_1"
    may_end.set()
    assert slow.result(DEADLINE_S)
    workers.shutdown()


def test_a_process_ends_while_a_call_still_runs() -> None:
    program = (
        "import threading; from chowder_local.engine.threads import Workers; "
        "begun = threading.Event(); workers = Workers(1, 'work'); "
        "workers.submit(lambda: (begun.set(), threading.Event().wait())); begun.wait()"
    )
    # Fails by its timeout if the process waits for its threads.
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
