"""Errors of OpenClaw releases, and of upgrades between them."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class VersionUnavailable(ChowderError):
    """The server cannot run an OpenClaw release, because it has no image of it.

    Remedy: Build its image with `chowder-local image build --openclaw`, or name another release.
    """

    def __init__(self, version: str) -> None:
        super().__init__(
            f"OpenClaw {version} is not available: its image is not on the engine. Build it with: "
            f"chowder-local image build --openclaw {version}"
        )


class UpgradeRefused(ChowderError):
    """An instance cannot move to the OpenClaw release that an upgrade names.

    Remedy: Name a newer release. To go back, restore the snapshot that the upgrade has taken.
    """


class InstanceInUse(ChowderError):
    """The instance is answering a message, and the call would interrupt it.

    Remedy: Wait for the answer, and try again.
    """

    retry = "yes"

    message = "The instance is answering a message. Try again when it has answered."
