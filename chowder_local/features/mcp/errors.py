"""Errors of the tools for editors."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class ToolsUnavailable(ChowderError):
    """The tools for editors could not start."""

    http_status = 500
    remedy = (
        "See the server's log for the cause (`chowder-local logs`), mend it, and send the request "
        "again."
    )

    def __init__(self) -> None:
        super().__init__(
            "The tools for editors could not start; the server's log says why. "
            "Send the request again once that is mended."
        )
