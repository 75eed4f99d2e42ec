"""Log lines as text or JSON, with the ids of request and instance."""

from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core import logs
from chowder_local.core.domain import InstanceId
from chowder_local.core.logs import JsonLine, Line

if TYPE_CHECKING:
    from pathlib import Path

ENDLESS = """
import logging, sys
from pathlib import Path
from chowder_local.core import logs
logs.FILE_BYTES = 200
logs.configure("info", file=Path(sys.argv[1]))
for number in range(20):
    logging.getLogger("chowder_local.x").info("line %s of the log", number)
print("the end", file=sys.stderr)
"""


def test_the_log_of_a_detached_server_is_bounded_and_stays_its_standard_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "server.log"
    with path.open("ab") as log:
        subprocess.run(
            [sys.executable, "-c", ENDLESS, str(path)], stdout=log, stderr=log, check=True
        )
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["server.log", "server.log.1", "server.log.2"]
    assert all(each.stat().st_size <= 300 for each in files)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    *_, last, end = path.read_text().splitlines()
    assert (last.endswith("line 19 of the log"), end) == (True, "the end")


def record(message: str, *args: object, **fields: Any) -> logging.LogRecord:
    return logging.LogRecord(
        "chowder_local.x", logging.WARNING, "x.py", 1, message, args, None, **fields
    )


def json_line(entry: logging.LogRecord) -> dict[str, Any]:
    line = JsonLine().format(entry)
    assert "\n" not in line
    content: dict[str, Any] = json.loads(line)
    return content


def test_a_json_line_has_time_level_logger_and_message() -> None:
    content = json_line(record("instance %s: running", "i-1"))
    assert datetime.fromisoformat(content.pop("time")).utcoffset() == timedelta(0)
    assert content == {
        "level": "warning",
        "logger": "chowder_local.x",
        "message": "instance i-1: running",
    }


def test_a_json_line_has_the_current_request_and_instance() -> None:
    def work() -> dict[str, object]:
        logs.set_request("r-1")
        assert "instance_id" not in json_line(record("x"))
        logs.set_instance(InstanceId("i-1"))
        return json_line(record("x"))

    content = copy_context().run(work)
    assert (content["request_id"], content["instance_id"]) == ("r-1", "i-1")
    assert {"request_id", "instance_id"}.isdisjoint(json_line(record("x")))


def test_a_traceback_is_in_the_same_json_line() -> None:
    entry = record("a defect")
    try:
        raise RuntimeError("line\nbreak")
    except RuntimeError:
        entry.exc_info = sys.exc_info()
    assert "RuntimeError: line\nbreak" in json_line(entry)["exception"]


def test_a_message_cannot_begin_a_new_json_line() -> None:
    forged = 'x\n{"level": "error"}\r\u2028'
    assert json_line(record("%s", forged))["message"] == forged


def test_a_message_cannot_begin_a_new_text_line() -> None:
    assert Line("%(message)s").format(record("it says %s", "no\r\nINFO forged")) == (
        "it says no\\r\\nINFO forged"
    )


def test_a_text_line_for_a_request_ends_with_its_id() -> None:
    line = Line("%(levelname)s: %(message)s")
    assert line.format(record("x")) == "WARNING: x"
    context = copy_context()
    context.run(logs.set_request, "r-1")
    assert context.run(line.format, record("x")) == "WARNING: x [r-1]"
    assert context.run(line.format, record("GET / 200 r-1")) == "WARNING: GET / 200 r-1"


@pytest.mark.parametrize(
    "client_id", ["a", "my-id_1.2~3", "9" * 64, "3f6d8a52-0c1e-4b7a-9d54-1e2f"]
)
def test_a_short_harmless_id_of_a_client_may_be_logged(client_id: str) -> None:
    assert logs.may_be_logged(client_id)


UNFIT = ["", "9" * 65, "a b", "a\n", "a\nb", "é", "a/b", '"', "{}", "\x00", "٣", "chd,org"]


def test_other_ids_of_clients_may_not_be_logged() -> None:
    assert not [client_id for client_id in UNFIT if logs.may_be_logged(client_id)]
