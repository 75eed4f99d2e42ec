"""Sets up logging to standard error: one event a line, as text or JSON."""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

from chowder_local.core import request_context


def configure(level: str, log_format: str = "line") -> None:
    """Sets up logging for the process, including uvicorn's loggers."""
    logging.config.dictConfig(_config(level, log_format))


class Line(logging.Formatter):
    """A line for people, with the current request's id at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line without a traceback."""
        # A text from outside could otherwise pass for lines of the server.
        line = super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")
        request_id = request_context.request_id()
        # The line of the request log has the id already.
        if request_id is None or line.endswith(request_id):
            return line
        return f"{line} [{request_id}]"


class JsonLine(logging.Formatter):
    """A line for programs: one JSON object, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_context.request_id(),
            "instance_id": request_context.instance_id(),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in entry.items() if value is not None})


def _config(level: str, log_format: str) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": Line, "format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
            "json": {"()": JsonLine},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": log_format}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "chowder_local": {"level": level.upper()},
            "uvicorn": {"level": "WARNING"},
            # The server has a request log of its own; uvicorn's would print queries.
            "uvicorn.access": {"level": "ERROR"},
        },
    }
