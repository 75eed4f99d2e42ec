"""Errors of OpenClaw releases, and of upgrades between them."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import SHOWN_CHARACTERS, InputInvalid


class VersionUnavailable(InputInvalid):
    """The server cannot run the OpenClaw release that a request names.

    Remedy: Build its image with `chowder-local image build --openclaw`, or name another release.
    """

    def __init__(self, version: str, reason: str, member: str) -> None:
        message = f"OpenClaw {version[:SHOWN_CHARACTERS]!r} is not available: {reason}"
        super().__init__([{"loc": ["body", member], "msg": message, "type": "value_error"}])
        self.args = (message,)


class UpgradeRefused(ChowderError):
    """An instance cannot move to the OpenClaw release that an upgrade names.

    Remedy: Name a newer release. To go back, restore the snapshot that the upgrade has taken.
    """


class InstanceInUse(ChowderError):
    """The instance is answering a message, and the call would interrupt it.

    Remedy: Wait for the answer, and try again.
    """

    message = "The instance is answering a message. Try again when it has answered."
