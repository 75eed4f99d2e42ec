"""Errors: what an agent's gateway, channels, skills and files do not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Iterable


class GatewayUnavailable(ChowderError):
    """An agent's gateway does not answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Gateway unavailable – {reason}")


class GatewaySuspended(GatewayUnavailable):
    """It takes nothing new for as long as a stop or a copy of its agent is under way."""


class ServerStopping(GatewayUnavailable):
    """The server ends before an agent's answer does."""

    def __init__(self) -> None:
        super().__init__("the server is stopping")


class AgentDiskFull(GatewayUnavailable):
    """An agent can do nothing, because nothing more fits on the disk that its files are on."""

    def __init__(self) -> None:
        super().__init__(
            "no space is left on the disk that the agent's files are on. Make room there "
            "('docker system df' shows what takes it), and send the message again"
        )


class AgentRenewed(GatewayUnavailable):
    """An agent cannot recover, so it is booted again on its volume."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the agent has not got over {what}, so it is started again. Send the message again "
            "in a moment"
        )


class Problem(NamedTuple):
    """What is wrong at a place of a configuration; the path is dotted, as OpenClaw writes it."""

    path: str
    words: str

    def __str__(self) -> str:
        return f"{self.path or '<root>'}: {self.words}"


class RpcRefused(ChowderError):
    """A gateway refuses a control call; the message and all problems are its own."""

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ConfigRefused(ChowderError):
    """OpenClaw does not take a configuration; the message is its own.

    `problems` has all of them with their places, as far as these are known.
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ConfigNotApplied(ConfigRefused):
    """OpenClaw has written a configuration that it then cannot use; the message is its own."""


class MessageRefused(ChowderError):
    """The gateway does not take a message; the message is its own."""


class MessageTooLarge(MessageRefused):
    message = "The message is larger than the agent's gateway takes."


class AnswerUnfit(ChowderError):
    """A model did not answer in the demanded form; the message says how."""


class ChannelNotFound(ChowderError):
    message = "Channel not found."


class PairingNotFound(ChowderError):
    message = "No pending pairing request has this code."


class ChannelRefused(ChowderError):
    """A messenger does not take what it is given; the message is OpenClaw's."""


class ChannelUnreachable(ChowderError):
    """A messenger is set up, but not connected; the message is OpenClaw's."""

    def __init__(self, channel: str, reason: str | None) -> None:
        cause = (reason or "OpenClaw does not say why").rstrip(".")
        super().__init__(f"{channel} is set up, but not connected yet: {cause}.")


class SkillNotFound(ChowderError):
    message = "Skill not found."


class SkillInstalled(ChowderError):
    def __init__(self, slug: str) -> None:
        super().__init__(f"Skill {slug!r} is installed already.")


class SkillRefused(ChowderError):
    """OpenClaw does not install a skill; the message is its own."""


class ClawHubUnavailable(ChowderError):
    """ClawHub cannot be reached from a sandbox, or does not do what it should."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"ClawHub unavailable – {reason}. Nothing was installed.")


class FileMissing(ChowderError):
    message = "File not found."


class FileRefused(ChowderError):
    """A path cannot be used for the operation; the message says why."""


class FileTooLarge(ChowderError):
    def __init__(self, path: str, limit_bytes: int) -> None:
        super().__init__(
            f"{path} is longer than the {limit_bytes} bytes that can be read as text; "
            "GET …/files/download gives files of any size."
        )


class SandboxFull(ChowderError):
    message = "No space is left for the agent's files; nothing was changed."
