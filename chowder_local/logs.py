"""How the server logs: one line an event, to standard error."""

from __future__ import annotations

import logging
import logging.config
from typing import Any


def configure(level: str) -> None:
    """Sets up logging for the process; uvicorn's own loggers go the same way."""
    logging.config.dictConfig(_config(level))


def _config(level: str) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "chowder_local": {"level": level.upper()},
            "uvicorn": {"level": "WARNING"},
            # Our own request log has the id; uvicorn's would print queries.
            "uvicorn.access": {"level": "ERROR"},
        },
    }
