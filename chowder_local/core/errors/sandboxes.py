"""Errors of the container engine, the sandbox image, and sandboxes."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class EngineUnavailable(ChowderError):
    """The container engine cannot be reached, or refuses a call."""

    http_status = 502
    exit_code = 6
    remedy = "Start the engine, and run `chowder-local doctor`."


class EngineSilent(EngineUnavailable):
    """The container engine does not answer in time, so it may or may not have done the work."""

    remedy = "Check the engine, and try again. `CHOWDER_ENGINE_TIMEOUT_S` sets the limit."


class EngineDiskFull(EngineUnavailable):
    """The engine refuses a call, because its disk is full. Agents go on once there is room."""

    http_status = 507
    remedy = (
        "Free space on the engine's disk (`docker system df` shows what uses it), and try again."
    )


class NodeUnreachable(EngineUnavailable):
    """The machine of a swarm that has the agent does not answer. The message names the machine."""

    remedy = "Bring the machine back (`docker node ls`); its agents then go on."

    def __init__(self, node: str) -> None:
        super().__init__(f"The node {node} does not answer. Its agents go on once it is back.")


class EngineRemote(ChowderError):
    """The container engine is on another machine, where its sandboxes cannot reach the server."""

    exit_code = 6
    remedy = "Run `chowder-local` on that machine, and forward its port."

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The container engine at {host} is on another machine, where sandboxes cannot reach "
            "this server. Run chowder-local on that machine and tunnel its port."
        )


class ImageMissing(ChowderError):
    """The sandbox image is not on the engine."""

    http_status = 502
    exit_code = 7
    remedy = (
        "Build it with `chowder-local image build`, or pull the one that `CHOWDER_IMAGE` names."
    )

    def __init__(self, image: str) -> None:
        is_ours = image.startswith("chowder-local/")
        remedy = "chowder-local image build" if is_ours else f"docker pull {image}"
        super().__init__(f"The sandbox image {image} is not there. Get it with: {remedy}")


class ImageUnknown(ChowderError):
    """`image rm` names an image that is not there."""

    remedy = "Use a tag from `chowder-local image ls`."

    def __init__(self, image: str) -> None:
        super().__init__(f"There is no image {image}. 'image ls' shows those that are there.")


class ImageBuildFailed(ChowderError):
    """The sandbox image could not be built. The message quotes the build."""

    exit_code = 7
    remedy = "Correct what the message names, and run `chowder-local image build`."


class ImageKept(ChowderError):
    """`image rm` does not remove the image, because another program built it or a container uses
    it.
    """

    remedy = "Remove the containers that use it first."

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"The image {image} is kept: {reason}.")


class SandboxMissing(ChowderError):
    """A sandbox, or the volume of one, is gone from the engine."""

    http_status = 404
    remedy = "Delete the instance and create another one, or restore it from a snapshot."


class OriginMissing(SandboxMissing):
    """The snapshot from which an instance was to be created was never finished, or is gone."""

    remedy = "Fork again, from a snapshot that `GET /local/snapshots` lists."
    message = "The snapshot from which the agent was to be created is gone."


class SandboxPaused(ChowderError):
    """The instance has just been stopped, so nothing can run in its sandbox."""

    http_status = 409
    remedy = "Start the instance, and try again."
    message = "Instance is stopped, but must be running for this."


class EgressUnavailable(EngineUnavailable):
    """The engine cannot keep a sandbox from the outside. The message says why."""

    # The engine works, but cannot provide the requested egress.
    http_status = 400
    remedy = "Use `egress` `on`, or correct what the message names."

    def __init__(self, reason: str) -> None:
        super().__init__(f"Egress cannot be off here: {reason}")


class HostFull(ChowderError):
    """The engine's machine has no memory for one more sandbox, and none can be freed."""

    # This is no failure of the server: the caller's other running agents take the memory.
    http_status = 409
    remedy = "Stop or delete an instance, or raise `CHOWDER_MAX_SANDBOXES`."

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This machine has memory for {limit} agents at a time, and that many are in use. "
            "Stop or delete one and try again, or raise CHOWDER_MAX_SANDBOXES."
        )


class BootFailed(ChowderError):
    """A sandbox did not become ready. The message quotes its log."""

    http_status: int | None = 502
    exit_code = 8
    remedy = "Read the log with `chowder-local logs INSTANCE`."


class BootTimedOut(BootFailed):
    """A client stopped waiting for an instance. The sandbox goes on booting."""

    http_status = None
    exit_code = 9
    remedy = "Wait again with `chowder-local instances wait INSTANCE`."


class BootStarved(BootFailed):
    """OpenClaw gave its start up, because the machine was too busy. The boot is tried once more."""

    remedy = "Boot fewer agents at once: set `CHOWDER_BOOT_CONCURRENCY=1`, and start it again."


class DiskFull(BootFailed):
    """A sandbox did not become ready, because its disk is full."""

    http_status = 507
    remedy = "Free disk space on the engine's machine, and start the instance again."
