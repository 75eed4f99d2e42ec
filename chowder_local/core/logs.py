"""Logging: one event a line, with the request and the instance that it is about."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import sys
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chowder_local.core.data_dir import touch_private

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from chowder_local.core.domain import InstanceId

REQUEST_ID_HEADER = "X-Request-Id"

_ACCEPTED = re.compile(r"[A-Za-z0-9._~-]{1,64}")
# A task that a request starts, such as a boot, inherits its context.
_current: ContextVar[tuple[str | None, InstanceId | None]] = ContextVar(
    "current", default=(None, None)
)


_arrival: ContextVar[tuple[float, str | None]] = ContextVar("arrival")


def request_id() -> str | None:
    """The id of the current request, if there is one."""
    return _current.get()[0]


def instance_id() -> InstanceId | None:
    """The id of the current instance, once it is known."""
    return _current.get()[1]


def may_be_logged(client_id: str) -> bool:
    """Whether the id that a client gave its request is short and harmless in a log."""
    return _ACCEPTED.fullmatch(client_id) is not None


def waited_s() -> float:
    """The time since the current request has arrived; 0 if there is none."""
    arrival = _arrival.get(None)
    return 0.0 if arrival is None else time.monotonic() - arrival[0]


def traceparent() -> str | None:
    """The trace that the current request belongs to, by its own header (W3C Trace Context)."""
    arrival = _arrival.get(None)
    return None if arrival is None else arrival[1]


def set_request(request_id: str, traceparent: str | None = None) -> None:
    """Makes a request the current one until the task ends, with no instance yet."""
    _current.set((request_id, None))
    _arrival.set((time.monotonic(), traceparent))


def set_instance(instance_id: InstanceId | None) -> None:
    """Makes an instance the current one until the request or the task ends."""
    _current.set((_current.get()[0], instance_id))


@contextmanager
def for_instance(instance_id: InstanceId) -> Iterator[None]:
    """Makes an instance the current one within the block."""
    former = _current.set((_current.get()[0], instance_id))
    try:
        yield
    finally:
        _current.reset(former)


FILE_BYTES = 10 * 1024 * 1024
FORMER_FILES = 2


def configure(level: str, log_format: str = "line", file: Path | None = None) -> None:
    """Sets up logging for the process, including uvicorn's loggers.

    If standard error is `file`, as `up --detach` sets it, the file is rotated.
    """
    logging.config.dictConfig(_config(level, log_format, _stderr_handler(file)))


class RotatingStderr(RotatingFileHandler):
    """Keeps the file of standard output and error bounded: both follow it to the new file."""

    def doRollover(self) -> None:  # noqa: N802 - logging's own name
        """Continues in a new file."""
        super().doRollover()
        if self.stream is not None:
            for descriptor in (1, 2):
                os.dup2(self.stream.fileno(), descriptor)

    def _open(self) -> io.TextIOWrapper:
        touch_private(Path(self.baseFilename))
        return super()._open()


def _stderr_handler(file: Path | None) -> dict[str, Any]:
    # Under pytest standard error may be no file, and the file may be missing.
    with suppress(OSError, ValueError):
        if file is not None and os.path.samestat(file.stat(), os.fstat(sys.stderr.fileno())):
            return {
                "class": f"{__name__}.RotatingStderr",
                "filename": str(file),
                "maxBytes": FILE_BYTES,
                "backupCount": FORMER_FILES,
                "encoding": "utf-8",
                "errors": "backslashreplace",
            }
    return {"class": "logging.StreamHandler"}


class Line(logging.Formatter):
    """A line for people, with the current request's id at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line without a traceback."""
        # A text from outside could otherwise pass for lines of the server.
        line = super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")
        current = request_id()
        # The line of the request log has the id already.
        if current is None or line.endswith(current):
            return line
        return f"{line} [{current}]"


class JsonLine(logging.Formatter):
    """A line for programs: one JSON object, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id(),
            "instance_id": instance_id(),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in entry.items() if value is not None})


def _config(level: str, log_format: str, handler: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": Line, "format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
            "json": {"()": JsonLine},
        },
        "handlers": {"stderr": {**handler, "formatter": log_format}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "chowder_local": {"level": level.upper()},
            "uvicorn": {"level": "WARNING"},
            # The server has a request log of its own; uvicorn's would print queries.
            "uvicorn.access": {"level": "ERROR"},
        },
    }
