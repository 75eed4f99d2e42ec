"""Errors of webhooks."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError

_STATUSES = {400, 404, 409, 413}


class HookRefused(ChowderError):
    """OpenClaw refuses a call of one of its hooks. The status is OpenClaw's: 404 if it has no hook
    of that name, 400 if the body does not fit; 502 if OpenClaw fails.
    """

    remedy = (
        "Do what the message says. `wake` and `agent` are always there; other names are those of "
        "the setting `hooks.mappings`."
    )

    def __init__(self, name: str, status: int, reason: str) -> None:
        super().__init__(f"The hook {name!r} answered {status}: {reason}")
        self.http_status = status if status in _STATUSES else 502


class InboxUnknown(ChowderError):
    """An agent sends a webhook to an address that is no instance's inbox. The status is 404."""

    message = "This is no instance's inbox. GET /local/instances/{id}/inbox says its address."
    remedy = "Use the `url` of `GET /local/instances/{id}/inbox`, with anything after it."
