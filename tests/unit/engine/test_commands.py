"""Running a command and reading its output line by line."""

from __future__ import annotations

import os
import sys
import time

import pytest

from chowder_local.core.errors.sandboxes import ImageBuildFailed
from chowder_local.engine.images import run_command

ENV = {"PATH": os.defpath}


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


def test_each_line_of_both_outputs_is_reported() -> None:
    lines: list[str] = []
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    assert run_command(python(code), ENV, lines.append) == (3, ["one", "two"])
    assert lines == ["one", "two"]


def test_the_command_gets_only_the_given_environment() -> None:
    code = "import os; print(os.environ.get('HOME'), os.environ['MARK'])"
    assert run_command(python(code), {"MARK": "x"}, print) == (0, ["None x"])


def test_output_that_is_not_utf8_is_replaced() -> None:
    code = "import sys; sys.stdout.buffer.write(bytes([255, 10]))"
    assert run_command(python(code), ENV, print) == (0, ["\N{REPLACEMENT CHARACTER}"])


def test_only_the_last_lines_are_kept() -> None:
    _, lines = run_command(python("for n in range(1000): print(n)"), ENV, lambda _: None)
    assert (len(lines), lines[-1]) == (200, "999")


def test_a_command_that_stays_silent_is_killed() -> None:
    started = time.monotonic()
    code, lines = run_command(
        python("import time; time.sleep(60)"), ENV, print, answer_within_s=0.2
    )
    assert (code, lines) == (-9, [])
    assert time.monotonic() - started < 30


def test_a_command_with_output_has_no_time_limit() -> None:
    # The deadline starts with the process, and Python itself needs a part of it to start.
    code = "print('begun'); import time; time.sleep(2.5); print('done')"
    result = run_command(python(code), ENV, print, answer_within_s=2)
    assert result == (0, ["begun", "done"])


def test_a_callback_that_raises_ends_the_command() -> None:
    def refuse(_: str) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_command(python("print('begun'); import time; time.sleep(60)"), ENV, refuse)
    assert time.monotonic() - started < 30


def test_the_error_for_a_missing_command_says_how_to_get_it() -> None:
    with pytest.raises(ImageBuildFailed, match=r"'docker-that-is-not-there'.*Docker Desktop"):
        run_command(["docker-that-is-not-there"], ENV, print)
