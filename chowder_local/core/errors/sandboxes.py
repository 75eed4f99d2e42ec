"""Errors: the container engine, the sandbox image, and sandboxes."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class EngineUnavailable(ChowderError):
    """The container engine cannot be reached or does not do what it should."""


class EngineSilent(EngineUnavailable):
    """The container engine does not answer, so it may or may not have done its work."""


class EngineRemote(ChowderError):
    """The engine found is on another machine, where ports and relay would not meet."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The container engine at {host} is on another machine; sandbox ports and the "
            "model relay live beside the engine. Run chowder-local there and tunnel its port."
        )


class ImageMissing(ChowderError):
    def __init__(self, image: str) -> None:
        is_ours = image.startswith("chowder-local/")
        cure = "chowder-local image build" if is_ours else f"docker pull {image}"
        super().__init__(f"The sandbox image {image} is not there. Get it with: {cure}")


class ImageUnknown(ChowderError):
    def __init__(self, image: str) -> None:
        super().__init__(f"There is no image {image}. 'image ls' shows those that are there.")


class ImageBuildFailed(ChowderError):
    """The sandbox image could not be built."""


class ImageKept(ChowderError):
    """An image is not removed, because it is not ours or in use."""

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"The image {image} is kept: {reason}.")


class SandboxMissing(ChowderError):
    """A sandbox, or the volume it lives on, is gone from the engine."""


class OriginMissing(SandboxMissing):
    """The snapshot that an instance was to be made of was never finished, or is gone."""

    message = "The snapshot that the agent was to be made of is gone."


class SandboxPaused(ChowderError):
    """A sandbox is paused, so nothing can be run in it; its instance has just been stopped."""

    message = "Instance is stopped, but must be running for this."


class EgressUnavailable(EngineUnavailable):
    """A sandbox cannot be kept from the outside on this engine; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Egress cannot be off here: {reason}")


class HostFull(ChowderError):
    """The engine's machine has no memory for one more sandbox, and none can be freed."""

    def __init__(self, places: int) -> None:
        super().__init__(
            f"This machine has memory for {places} agents at a time, and as many are awake. "
            "Stop or delete one and try again, or allow more with CHOWDER_MAX_RUNNING."
        )


class BootFailed(ChowderError):
    """A sandbox did not become ready; the message quotes what its log says."""


class BootTimedOut(BootFailed):
    """A client has waited for as long as it wanted; the sandbox goes on booting."""


class DiskFull(BootFailed):
    """A sandbox did not become ready for lack of disk."""
