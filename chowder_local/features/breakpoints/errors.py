"""Errors of breakpoints."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class BreakpointNotFound(ChowderError):
    """The instance has no breakpoint."""

    http_status = 404
    remedy = "Set one with `PUT` on the same path."
    message = "There is no breakpoint. Set one with PUT."


class HeldCallNotFound(ChowderError):
    """No model call with this id is held: it was let go, its agent has left it, or it never was."""

    http_status = 404
    remedy = "Use the `id` of a call from `GET /local/held-calls`."
    message = "No such model call is held any more. GET /local/held-calls lists those that are."
