"""Log lines: as text or as JSON, with what they are about."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Any

import pytest

from chowder_local.core import request_context
from chowder_local.core.domain import InstanceId
from chowder_local.core.logs import JsonLine, Line


def record(words: str, *args: object, **more: Any) -> logging.LogRecord:
    return logging.LogRecord(
        "chowder_local.x", logging.WARNING, "x.py", 1, words, args, None, **more
    )


def told(entry: logging.LogRecord) -> dict[str, Any]:
    line = JsonLine().format(entry)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_json_line_tells_when_what_and_from_where() -> None:
    found = told(record("instance %s: running", "i-1"))
    assert datetime.fromisoformat(found.pop("time")).utcoffset() == timedelta(0)
    assert found == {
        "level": "warning",
        "logger": "chowder_local.x",
        "message": "instance i-1: running",
    }


def test_a_json_line_tells_request_and_instance_where_they_are_known() -> None:
    def work() -> dict[str, object]:
        request_context.set_request("r-1")
        assert "instance_id" not in told(record("x"))
        request_context.set_instance(InstanceId("i-1"))
        return told(record("x"))

    found = copy_context().run(work)
    assert (found["request_id"], found["instance_id"]) == ("r-1", "i-1")
    assert {"request_id", "instance_id"}.isdisjoint(told(record("x")))


def test_a_traceback_is_in_the_same_json_line() -> None:
    entry = record("a defect")
    try:
        raise RuntimeError("line\nbreak")
    except RuntimeError:
        entry.exc_info = sys.exc_info()
    assert "RuntimeError: line\nbreak" in told(entry)["exception"]


def test_what_is_logged_cannot_begin_a_json_line_of_its_own() -> None:
    forged = 'x\n{"level": "error"}\r\u2028'
    assert told(record("%s", forged))["message"] == forged


def test_a_text_line_for_a_request_ends_with_its_id() -> None:
    line = Line("%(levelname)s: %(message)s")
    assert line.format(record("x")) == "WARNING: x"
    context = copy_context()
    context.run(request_context.set_request, "r-1")
    assert context.run(line.format, record("x")) == "WARNING: x [r-1]"
    assert context.run(line.format, record("GET / 200 r-1")) == "WARNING: GET / 200 r-1"


@pytest.mark.parametrize("offered", ["a", "my-id_1.2~3", "9" * 64, "3f6d8a52-0c1e-4b7a-9d54-1e2f"])
def test_a_short_and_harmless_id_of_a_clients_is_kept(offered: str) -> None:
    assert request_context.may_be_logged(offered)


UNFIT = ["", "9" * 65, "a b", "a\n", "a\nb", "é", "a/b", '"', "{}", "\x00", "٣", "chd,org"]


def test_no_other_is() -> None:
    assert not [offered for offered in UNFIT if request_context.may_be_logged(offered)]
